"""Every setting of Parley, production-safe by default; docs/configuration.md explains each variable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from config import admin
from config.env import BASE_DIR, choice, env, fernet_keys, number, read_files, refuse, required, url
from config.logging import configure_logging

read_files()

PARLEY_ENV = choice("PARLEY_ENV", "production", "production", "local")
LOCAL = PARLEY_ENV == "local"
DEBUG = False

PARLEY_HOME = Path(os.environ.get("PARLEY_HOME", BASE_DIR / "var")).resolve()
SECRET_KEY = required("SECRET_KEY", "the secret that signs sessions; any random string of 50 characters", least=32)
PARLEY_KEY_PEPPER = required("PARLEY_KEY_PEPPER", "the secret that API keys are hashed with", least=32)
# Newest first: the first encrypts, all decrypt.
PARLEY_ENCRYPTION_KEYS = fernet_keys(
    "PARLEY_ENCRYPTION_KEYS", "a comma-separated list of Fernet keys that encrypt endpoint credentials"
)

ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[])
if not ALLOWED_HOSTS:
    refuse("ALLOWED_HOSTS is not set. It is a comma-separated list of the host names that Parley answers on.")
PARLEY_BASE_URL = env.str("PARLEY_BASE_URL", default=f"https://{ALLOWED_HOSTS[0].lstrip('.')}").rstrip("/")
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[PARLEY_BASE_URL])

# --- Limits -----------------------------------------------------------------------------------------------------------

PARLEY_MAX_UPLOAD_BYTES = number("PARLEY_MAX_UPLOAD_BYTES", 50 * 1024 * 1024, least=1024)
PARLEY_MAX_QUESTION_CHARS = number("PARLEY_MAX_QUESTION_CHARS", 16_000, least=100)
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024  # JSON bodies; files stream to disk and have a limit of their own
FILE_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5_000

# Hosts that requests may go to although their addresses are not public; all others must be (chatbot/addresses.py).
PARLEY_PRIVATE_ENDPOINT_HOSTS = env.list(
    "PARLEY_PRIVATE_ENDPOINT_HOSTS", default=["127.0.0.1", "localhost"] if LOCAL else []
)
PARLEY_PRIVATE_SOURCE_HOSTS = env.list("PARLEY_PRIVATE_SOURCE_HOSTS", default=[])
PARLEY_PRIVATE_WEBHOOK_HOSTS = env.list("PARLEY_PRIVATE_WEBHOOK_HOSTS", default=[])

# --- Applications -----------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "apps.edge",
    "apps.tenants",
    "apps.webhooks",
    "apps.inference",
    "apps.usage",
    "apps.knowledge",
    "apps.assistants",
    "apps.conversations",
    "apps.ops",
]

MIDDLEWARE = [
    # First: binds the request id, measures, and hands streaming routes straight to their view.
    "apps.edge.middleware.front_door",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

UNFOLD = admin.UNFOLD

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Data -------------------------------------------------------------------------------------------------------------

# The budget of ordinary work (docs/operations.md); the worker's bulk statements get more in config/celery.py.
SQL_TIMEOUT_MS = number("PARLEY_SQL_TIMEOUT_MS", 2_000, least=100)


def database(url: str, *, pool: bool) -> dict[str, Any]:
    """One alias. Pooled ones hand out at most DATABASE_POOL_SIZE connections and wait a second for one."""
    config: dict[str, Any] = env.db_url_config(url)
    config["ENGINE"] = "django.db.backends.postgresql"
    config["OPTIONS"] = {**config.get("OPTIONS", {}), "application_name": "parley"}
    if pool:
        config["OPTIONS"] |= {
            "pool": {"min_size": 1, "max_size": number("DATABASE_POOL_SIZE", 10, least=1), "timeout": 1.0},
            "options": f"-c statement_timeout={SQL_TIMEOUT_MS} -c lock_timeout=2000"
            " -c idle_in_transaction_session_timeout=15000",
        }
    return config


DATABASES = {
    "default": database(
        url(
            "DATABASE_URL",
            "the address of PostgreSQL, as the restricted app role: postgres://user:password@host:5432/database",
            schemes=("postgres", "postgresql"),
        ),
        pool=True,
    )
}
if owner_url := os.environ.get("OWNER_DATABASE_URL"):
    # Only `manage.py setup_database` uses it; web and worker processes need not have it.
    DATABASES["owner"] = database(owner_url, pool=False)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = url(
    "REDIS_URL",
    "the address of Redis for shared state (noeviction): redis://host:6379/0",
    schemes=("redis", "rediss", "unix"),
)
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": env.str("CACHE_URL", default=REDIS_URL),
        "KEY_PREFIX": "parley",
        "OPTIONS": {
            # The default serializer is pickle, which executes what it reads.
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
            "SOCKET_CONNECT_TIMEOUT": 0.5,
            "SOCKET_TIMEOUT": 0.5,
        },
    }
}
CHANNEL_LAYERS: dict[str, Any] = {}  # tokens never cross a channel layer

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
MEDIA_ROOT = PARLEY_HOME / "media"
STATIC_URL = "/static/"
STATIC_ROOT = PARLEY_HOME / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]

# --- Background work --------------------------------------------------------------------------------------------------

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default=REDIS_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 900}
CELERY_BEAT_SCHEDULE = {
    # Both repair what a lost task or a dead process left behind.
    "resend-documents": {"task": "knowledge.resend_documents", "schedule": 30.0},
    "close-abandoned-turns": {"task": "conversations.close_abandoned_turns", "schedule": 30.0},
    "deliver-webhooks": {"task": "webhooks.deliver", "schedule": 30.0},
    "prune-webhook-deliveries": {"task": "webhooks.prune_deliveries", "schedule": 3600.0},
}

# --- People -----------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "tenants.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
# Axes would look for `email`, our USERNAME_FIELD, which Django's login form does not send: it then counts failures of
# nobody, and a locked account still opens to the right guess.
AXES_USERNAME_FORM_FIELD = "username"
AXES_USERNAME_CALLABLE = "apps.tenants.sessions.login_name"
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

# --- Transport --------------------------------------------------------------------------------------------------------

SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=not LOCAL)
SECURE_HSTS_SECONDS = 0 if LOCAL else number("SECURE_HSTS_SECONDS", 31_536_000)
SECURE_HSTS_INCLUDE_SUBDOMAINS = not LOCAL
SECURE_HSTS_PRELOAD = not LOCAL
# Probes and scrapers inside the cluster speak plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^healthz/", r"^metrics$"]
if env.bool("PARLEY_BEHIND_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not LOCAL
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        # The admin's Alpine.js evaluates expressions; no page shows markup that a tenant or a model wrote.
        "script-src": ["'self'", "'unsafe-inline'", "'unsafe-eval'"],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
        "base-uri": ["'self'"],
        "object-src": ["'none'"],
    }
}

# --- API --------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.tenants.authentication.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apps.edge.parsers.BoundedJSONParser"],
    "DEFAULT_PAGINATION_CLASS": "apps.edge.pagination.ByCursor",
    "DEFAULT_SCHEMA_CLASS": "apps.edge.openapi.Schema",
    "EXCEPTION_HANDLER": "apps.edge.errors.drf_handler",
    "UNAUTHENTICATED_USER": None,
    "PAGE_SIZE": 50,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Parley",
    "VERSION": "0.1.0",
    "DEFAULT_GENERATOR_CLASS": "apps.edge.openapi.Generator",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "apps.ops.api_examples.add_examples",
    ],
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "defaultModelsExpandDepth": 0, "displayRequestDuration": True},
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1",
}

# --- Language, time, logs ---------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
LOGGING_CONFIG = None
configure_logging(level=choice("LOG_LEVEL", "INFO", "DEBUG", "INFO", "WARNING", "ERROR"))
if dsn := os.environ.get("SENTRY_DSN"):
    import sentry_sdk

    sentry_sdk.init(
        dsn=dsn,
        environment=PARLEY_ENV,
        send_default_pii=False,
        # Local variables and bodies hold questions, answers and keys.
        include_local_variables=False,
        max_request_body_size="never",
    )
