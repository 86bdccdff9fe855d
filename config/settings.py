"""Every setting of Parley, production-safe by default.

Each call of config.env's readers declares a variable; `python -m config.reference` writes what they declare to
docs/configuration.md and .env.example.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery.schedules import crontab
from kombu import Queue

from apps.edge.queues import DOCUMENTS, QUEUES
from config import admin, api, logins, oauth, operators, storage
from config.contradictions import refuse_contradictions
from config.databases import database, owning, pooled
from config.env import (
    BASE_DIR,
    POSTGRES,
    REDIS,
    address,
    choice,
    fernet_keys,
    flag,
    hosts,
    mailbox,
    names,
    networks,
    number,
    origin,
    read_files,
    required,
    section,
    text,
    url,
)
from config.logging import configure_logging
from config.mail import email
from config.sentry import report_errors

VERSION = "0.1.0"

read_files()

section("Basics")
PARLEY_ENV = choice(
    "PARLEY_ENV",
    "production",
    "`local` switches off what needs TLS (redirects, HSTS, secure cookies) and allows the demo. Only `make up` should"
    " set it.",
    "production",
    "local",
)
LOCAL = PARLEY_ENV == "local"
DEBUG = False
PARLEY_HOME = Path(
    text(
        "PARLEY_HOME",
        str(BASE_DIR / "var"),
        "Where uploaded files (`media/`) and collected static files (`static/`) are kept.",
        says="`var` in the checkout",
    )
).resolve()

SECRET_KEY = required(
    "SECRET_KEY",
    "It signs sessions: at least 32 random characters, better 50. Changing it logs everybody out.",
    least=32,
)
PARLEY_KEY_PEPPER = required(
    "PARLEY_KEY_PEPPER",
    "API keys are hashed with it: at least 32 random characters. Changing it makes every API key invalid.",
    least=32,
)
PARLEY_ENCRYPTION_KEYS = fernet_keys(
    "PARLEY_ENCRYPTION_KEYS",
    "Fernet keys (32 bytes in URL-safe base64), separated by commas, that encrypt stored secrets: API keys of"
    " endpoints, secrets of webhooks. The first one encrypts, all of them decrypt; operations.md says how to rotate.",
)

ALLOWED_HOSTS = hosts("ALLOWED_HOSTS", None, "The host names that Parley answers on, separated by commas.")
BASE_URL = origin(
    "PARLEY_BASE_URL",
    f"https://{ALLOWED_HOSTS[0].lstrip('.')}",
    "The address under which people reach Parley.",
    says="`https://` and the first of `ALLOWED_HOSTS`",
)
PARLEY_BASE_URL = BASE_URL.geturl()
CSRF_TRUSTED_ORIGINS = names(
    "CSRF_TRUSTED_ORIGINS",
    [PARLEY_BASE_URL],
    "Origins whose forms are accepted, separated by commas.",
    says="`PARLEY_BASE_URL`",
)

# --- Limits -----------------------------------------------------------------------------------------------------------

section("Limits")
PARLEY_MAX_UPLOAD_BYTES = number(
    "PARLEY_MAX_UPLOAD_BYTES",
    50 * 1024 * 1024,
    "The largest document, in bytes. A proxy in front must let as much through.",
    least=1024,
    most=2**40,
)
PARLEY_MAX_ATTACHMENT_BYTES = number(
    "PARLEY_MAX_ATTACHMENT_BYTES",
    min(10 * 1024 * 1024, PARLEY_MAX_UPLOAD_BYTES),
    "The largest file that a question may bring along, in bytes; at most `PARLEY_MAX_UPLOAD_BYTES`.",
    least=1024,
    most=2**30,
)
PARLEY_MAX_ATTACHMENT_CHARS = number(
    "PARLEY_MAX_ATTACHMENT_CHARS",
    200_000,
    "How much text of such a file is kept, from its beginning. A model receives what fits into its context window.",
    least=1000,
    most=5_000_000,
)
PARLEY_MAX_QUESTION_CHARS = number(
    "PARLEY_MAX_QUESTION_CHARS", 16_000, "The longest question, and the longest search query.", least=100
)
PARLEY_OCR_ENGINE = choice(
    "PARLEY_OCR_ENGINE",
    "auto",
    "What recognises text in images and scanned pages: `tesseract`, `rapidocr`, or `auto`, which is Tesseract where its"
    " library is installed.",
    "auto",
    "tesseract",
    "rapidocr",
)
PARLEY_OCR_LANGUAGES = names(
    "PARLEY_OCR_LANGUAGES",
    [],
    "The languages that Tesseract looks for, as it names them, separated by commas: `eng,deu`. Each takes time.",
    says="all that are installed",
)
PARLEY_RERANK_MILLISECONDS = number(
    "PARLEY_RERANK_MILLISECONDS",
    1000,
    "How long a search waits for a reranking endpoint, if there is one; after that it does without.",
    least=10,
    most=60_000,
)
PARLEY_INDEX_ABOVE = number(
    "PARLEY_INDEX_ABOVE",
    10_000,
    "Passages of a tenant above which its vectors get an HNSW index of their own (retrieval.md); below half of them it"
    " is dropped.",
    least=100,
    most=100_000_000,
)
PARLEY_MOST_INDEXES = number(
    "PARLEY_MOST_INDEXES",
    50,
    "HNSW indexes that there may be, those of the largest tenants: every search and every new vector has all of them"
    " looked at.",
    most=1_000,
)
PARLEY_INDEX_MEMORY_MB = number(
    "PARLEY_INDEX_MEMORY_MB",
    256,
    "Memory that PostgreSQL may take to build an HNSW index, in MiB; about 150 do for 100,000 passages of 384"
    " dimensions. An index that does not fit is built more slowly.",
    least=16,
    most=65_536,
)
PARLEY_DRAIN_GRACE_SECONDS = number(
    "PARLEY_DRAIN_GRACE_SECONDS",
    5,
    "Seconds that a web process which was told to end goes on, with readiness off, for load balancers to notice.",
    most=600,
)
PARLEY_DRAIN_SECONDS = number(
    "PARLEY_DRAIN_SECONDS",
    120,
    "Seconds that it then gives the answers which it is writing; another process goes on with the rest.",
    most=3600,
)
PARLEY_ADDRESS_REQUESTS_A_MINUTE = number(
    "PARLEY_ADDRESS_REQUESTS_A_MINUTE",
    6_000,
    "Requests and WebSocket frames a minute from one address, or one IPv6 /64. An answer of 401 counts ten times."
    " 0: any number.",
)
PARLEY_ADDRESS_BURST = number(
    "PARLEY_ADDRESS_BURST", 2_000, "How many of them may come at once; they are earned back at that rate.", least=1
)
PARLEY_CREDENTIAL_REQUESTS_A_MINUTE = number(
    "PARLEY_CREDENTIAL_REQUESTS_A_MINUTE",
    6_000,
    "Requests and WebSocket frames a minute with one API key, token or login, from all addresses together. 0: any"
    " number.",
)
PARLEY_CREDENTIAL_BURST = number("PARLEY_CREDENTIAL_BURST", 2_000, "How many of them may come at once.", least=1)
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024  # JSON bodies; files stream to disk and have a limit of their own
FILE_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5_000

section(
    "Where requests may go",
    "Requests that Parley makes go to public addresses only. Hosts named here, as they stand in the address (`tgi`,\n"
    "`10.0.0.7`), may be reached wherever they are.",
)
PARLEY_PRIVATE_ENDPOINT_HOSTS = hosts(
    "PARLEY_PRIVATE_ENDPOINT_HOSTS",
    ["127.0.0.1", "localhost"] if LOCAL else [],
    "Model servers inside your network, separated by commas.",
    says="none; this machine when `PARLEY_ENV` is `local`",
)
PARLEY_PRIVATE_SOURCE_HOSTS = hosts(
    "PARLEY_PRIVATE_SOURCE_HOSTS",
    [],
    "Hosts inside your network that documents may be fetched from, separated by commas.",
)
PARLEY_CRAWL_DELAY_MS = number(
    "PARLEY_CRAWL_DELAY_MS",
    1_000,
    "Milliseconds between two requests of all sources to one host. A `Crawl-delay` of its robots.txt counts where it is"
    " longer. 0: no pause.",
    most=60_000,
)
PARLEY_SOURCE_FOLDERS = text(
    "PARLEY_SOURCE_FOLDERS",
    "",
    "A directory, the same on every worker. Operators make folders below it sources of documents; nothing outside of it"
    " is read.",
)
PARLEY_PRIVATE_WEBHOOK_HOSTS = hosts(
    "PARLEY_PRIVATE_WEBHOOK_HOSTS",
    [],
    "Hosts inside your network that webhooks may be sent to, separated by commas.",
)

# --- Applications -----------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "apps.tenants",  # before unfold, whose header it extends
    "unfold.apps.BasicAppConfig",  # unfold's own would replace our site
    "unfold.contrib.filters",
    "config.admin_app.ParleyAdminConfig",
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
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.usersessions",
    "oauth2_provider",
    "apps.edge",
    "apps.access",
    "apps.oauth",
    "apps.webhooks",
    "apps.inference",
    "apps.usage",
    "apps.knowledge",
    "apps.assistants",
    "apps.widget",
    "apps.conversations",
    "apps.ops",
    "apps.loadtest",
]

MIDDLEWARE = [
    # First: binds the request id and measures.
    "apps.edge.middleware.front_door",
    # Ahead of whatever looks a credential up.
    "apps.access.limiting.limited",
    "apps.access.cors.cross_origin",
    # Hands streaming routes straight to their view.
    "apps.edge.middleware.short_way",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "apps.access.logins.second_factor.lead_to_second_factor",
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

section("Data")
OPERATOR_CONNECTIONS = 4  # of a process at most: a few people read a few pages
# The budget of ordinary work (docs/operations.md); the worker's bulk statements get more in config/celery.py.
PARLEY_SQL_TIMEOUT_MS = number(
    "PARLEY_SQL_TIMEOUT_MS",
    2_000,
    "Milliseconds that one SQL statement may take.",
    least=100,
    says="2000; 30000 in the worker",
)
DATABASE_PGBOUNCER = flag(
    "DATABASE_PGBOUNCER",
    False,
    "Whether `DATABASE_URL` and `OPERATOR_DATABASE_URL` lead to PgBouncer in transaction mode. Time limits are then the"
    " roles' own (deployment.md).",
)
DATABASES = {
    "default": pooled(
        database(
            "DATABASE_URL",
            url(
                "DATABASE_URL",
                "PostgreSQL as the restricted role of the product: `postgres://user:password@host:5432/parley`.",
                schemes=POSTGRES,
            ),
        ),
        size=number(
            "DATABASE_POOL_SIZE",
            10,
            "Connections that a process opens to PostgreSQL at most; a web process as many again for questions.",
            least=1,
            most=1_000,
        ),
        sql_timeout_ms=PARLEY_SQL_TIMEOUT_MS,
        pgbouncer=DATABASE_PGBOUNCER,
    )
}
if owner_url := url(
    "OWNER_DATABASE_URL",
    "PostgreSQL as the role that owns the tables. Only `setup_database`, `backup`, `restore` and the process `layouts`"
    " use it; web and worker need not have it.",
    schemes=POSTGRES,
    default="",
):
    DATABASES["owner"] = owning(database("OWNER_DATABASE_URL", owner_url))
if operator_url := url(
    "OPERATOR_DATABASE_URL",
    "PostgreSQL as the role of the platform's operators, which reads the rows of every tenant and writes none. Without"
    " it, operators see in the admin one tenant at a time.",
    schemes=POSTGRES,
    default="",
):
    DATABASES["operator"] = pooled(
        database("OPERATOR_DATABASE_URL", operator_url),
        size=OPERATOR_CONNECTIONS,
        sql_timeout_ms=PARLEY_SQL_TIMEOUT_MS,
        pgbouncer=DATABASE_PGBOUNCER,
    )
PARLEY_SEARCH_ROLE = text(
    "PARLEY_SEARCH_ROLE",
    "parley_search",
    "The role that owns the functions which search, and which find out whose a credential is. Only `setup_database`"
    " reads it.",
)
DATABASE_ROUTERS = ["apps.tenants.routing.Router"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = url(
    "REDIS_URL",
    "Redis for shared state, with the policy noeviction: `redis://:password@host:6379/0`.",
    schemes=REDIS,
)
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": url(
            "CACHE_URL",
            "Redis for what may be evicted.",
            schemes=REDIS,
            default=REDIS_URL,
            says="`REDIS_URL`",
        ),
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
    "default": storage.backend(
        url(
            "PARLEY_STORAGE_URL",
            "An S3-compatible bucket for uploaded files, instead of `PARLEY_HOME`:"
            " `s3://KEY:SECRET@BUCKET/PREFIX?endpoint=https://HOST&region=NAME` (deployment.md). Without key and secret"
            " they are looked for where AWS programs look.",
            schemes=("s3",),
            default="",
            says="the disk",
        )
    ),
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
MEDIA_ROOT = PARLEY_HOME / "media"
PARLEY_STATIC_PATH = "/static/"  # where web processes and nginx have them, whoever hands them out
STATIC_ROOT = PARLEY_HOME / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]

# --- Background work --------------------------------------------------------------------------------------------------

CELERY_BROKER_URL = url(
    "CELERY_BROKER_URL",
    "The broker between web and worker; RabbitMQ works too, `amqp://user:password@host:5672/vhost` (operations.md).",
    schemes=("redis", "rediss", "redis+socket", "amqp", "amqps", "unix"),
    default=REDIS_URL,
    says="`REDIS_URL`",
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_QUEUES = [Queue(name, routing_key=name) for name in QUEUES]
CELERY_TASK_ROUTES = {  # large documents elsewhere: apps/knowledge/queue.py
    "knowledge.ingest": {"queue": DOCUMENTS},
    "knowledge.run_source": {"queue": DOCUMENTS},
    "knowledge.build_index": {"queue": DOCUMENTS},
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 900}
CELERY_BEAT_SCHEDULE = {
    # Both repair what a lost task or a dead process left behind.
    "resend-documents": {"task": "knowledge.resend_documents", "schedule": 30.0},
    "close-abandoned-turns": {"task": "conversations.close_abandoned_turns", "schedule": 30.0},
    "forget-quotations": {"task": "conversations.forget_quotations", "schedule": 20.0},
    "forget-unused-attachments": {"task": "conversations.forget_unused_attachments", "schedule": 3600.0},
    "resume-sources": {"task": "knowledge.resume_sources", "schedule": 30.0},
    "resume-indexes": {"task": "knowledge.resume_indexes", "schedule": 30.0},
    "forget-deleted": {"task": "knowledge.forget_deleted", "schedule": 20.0},
    "sweep-reservations": {"task": "usage.sweep_reservations", "schedule": 20.0},
    "look-at-limits": {"task": "usage.look_at_limits", "schedule": 30.0},
    "prune-quota-alerts": {"task": "usage.prune_alerts", "schedule": 86_400.0},
    "reconcile-usage": {"task": "usage.reconcile", "schedule": 600.0},
    "deliver-webhooks": {"task": "webhooks.deliver", "schedule": 30.0},
    "prune-webhook-deliveries": {"task": "webhooks.prune_deliveries", "schedule": 3600.0},
    "prune-idempotency-keys": {"task": "access.prune_idempotency_keys", "schedule": 3600.0},
    "prune-sessions": {"task": "access.prune_sessions", "schedule": 3600.0},
    "prune-failed-logins": {"task": "access.prune_failed_logins", "schedule": 3600.0},
    "prune-oauth-tokens": {"task": "oauth.prune_tokens", "schedule": 3600.0},
    "roll-up-usage": {"task": "usage.roll_up", "schedule": 600.0},
    # By the clock: beat forgets when it last did something where its container is made anew.
    "remove-old-conversations": {"task": "conversations.remove_old", "schedule": crontab(hour="2", minute="40")},
    "guard-recall": {"task": "conversations.guard_recall", "schedule": crontab(hour="3", minute="20")},
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
AXES_USERNAME_CALLABLE = "apps.access.sessions.login_name"
AXES_ENABLE_ADMIN = False
AXES_DISABLE_ACCESS_LOG = True  # the audit log has who logged in
AXES_VERBOSE = False
globals().update(logins.ALLAUTH)
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600  # seconds for which having shown who one is lets second factors be changed
section("Logins")
PARLEY_REQUIRE_SECOND_FACTOR = choice(
    "PARLEY_REQUIRE_SECOND_FACTOR",
    "off" if LOCAL else "operators",
    "Who must have a second factor, an authenticator app or a passkey: `off`, `operators` or `everybody`. Whoever has"
    " none sets one up at the next login.",
    "off",
    "operators",
    "everybody",
    says="operators; off when `PARLEY_ENV` is `local`",
)
PARLEY_OIDC = logins.single_sign_on(local=LOCAL)

# --- E-mail -----------------------------------------------------------------------------------------------------------

section("E-mail")
_mail = email(local=LOCAL)
PARLEY_MAIL = _mail.pop("PARLEY_MAIL")  # whether any mail leaves
globals().update(_mail)
DEFAULT_FROM_EMAIL = SERVER_EMAIL = mailbox(
    "DEFAULT_FROM_EMAIL",
    f"Parley <parley@{ALLOWED_HOSTS[0].lstrip('.')}>",
    "Who Parley's mails are from.",
    says="`Parley <parley@…>` at the first of `ALLOWED_HOSTS`",
)
PASSWORD_RESET_TIMEOUT = number(
    "PASSWORD_RESET_TIMEOUT",
    3600,
    "Seconds for which a mailed link sets a new password.",
    least=300,
    most=7 * 24 * 3600,
)

# --- Transport --------------------------------------------------------------------------------------------------------

section("Transport")
SECURE_SSL_REDIRECT = flag(
    "SECURE_SSL_REDIRECT",
    not LOCAL,
    "Redirect HTTP to HTTPS, but for health checks and metrics.",
    says="on; off when `PARLEY_ENV` is `local`",
)
SECURE_HSTS_SECONDS = number(
    "SECURE_HSTS_SECONDS",
    0 if LOCAL else 31_536_000,
    "How long browsers remember to use HTTPS only.",
    says="31536000 (a year); 0 when `PARLEY_ENV` is `local`",
)
SECURE_HSTS_INCLUDE_SUBDOMAINS = not LOCAL
SECURE_HSTS_PRELOAD = not LOCAL
# Probes and scrapers inside the cluster speak plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^healthz/", r"^metrics$"]
PARLEY_BEHIND_PROXY = flag(
    "PARLEY_BEHIND_PROXY",
    False,
    "Believe `X-Forwarded-Proto`, and the last address of `X-Forwarded-For`. Switch it on only behind a proxy that"
    " always sets them itself and, unless `PARLEY_TRUSTED_PROXIES` names it, alone reaches Parley, as the nginx of"
    " deploy/ does.",
)
PARLEY_TRUSTED_PROXIES = networks(
    "PARLEY_TRUSTED_PROXIES",
    "Addresses or networks of the proxies that are believed, separated by commas. They are skipped in"
    " `X-Forwarded-For`, from its end; what anybody else claims counts for nothing.",
    says="whoever connects, where `PARLEY_BEHIND_PROXY` is on",
)
if PARLEY_BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not LOCAL
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
STATIC_URL = url(
    "PARLEY_STATIC_URL",
    "Where browsers fetch the admin's static files: the address of a CDN that takes them from `/static/` of Parley"
    " (deployment.md).",
    schemes=("https",),
    default=PARLEY_STATIC_PATH,
)
STATIC_URL = f"{STATIC_URL.rstrip('/')}/"
_STATIC_ORIGINS: list[str] = [] if STATIC_URL == PARLEY_STATIC_PATH else ["/".join(STATIC_URL.split("/")[:3])]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        # The admin's Alpine.js evaluates expressions; no page shows markup that a tenant or a model wrote.
        "script-src": ["'self'", *_STATIC_ORIGINS, "'unsafe-inline'", "'unsafe-eval'"],
        "style-src": ["'self'", *_STATIC_ORIGINS, "'unsafe-inline'"],
        "font-src": ["'self'", *_STATIC_ORIGINS],
        "img-src": ["'self'", *_STATIC_ORIGINS, "data:"],
        "connect-src": ["'self'"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
        "base-uri": ["'self'"],
        "object-src": ["'none'"],
    }
}

# --- API --------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = api.REST_FRAMEWORK
SPECTACULAR_SETTINGS = {**api.SPECTACULAR, "VERSION": VERSION}

# --- OAuth2 -----------------------------------------------------------------------------------------------------------

globals().update(oauth.MODELS)
OAUTH2_PROVIDER = oauth.provider(issuer=PARLEY_BASE_URL)

# --- Language, time, logs ---------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
LOGGING_CONFIG = None
section("Logs and errors")
configure_logging(
    level=choice("LOG_LEVEL", "INFO", "`DEBUG`, `INFO`, `WARNING` or `ERROR`.", "DEBUG", "INFO", "WARNING", "ERROR")
)
if dsn := text(
    "SENTRY_DSN",
    "",
    "Where errors are reported: their type and place, tenant and request, and nothing that anybody wrote.",
):
    report_errors(dsn, environment=PARLEY_ENV, release=VERSION)

OTEL_EXPORTER_OTLP_ENDPOINT = url(
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "Where spans are sent by OpenTelemetry's protocol over HTTP: `http://collector:4318`. The SDK's own variables, such"
    " as `OTEL_EXPORTER_OTLP_HEADERS`, count as well.",
    schemes=("http", "https"),
    default="",
)
OTEL_SERVICE_NAME = text("OTEL_SERVICE_NAME", "parley", "What spans call the process.")
PARLEY_TRACED_PERCENT = number(
    "PARLEY_TRACED_PERCENT", 10, "How many of a hundred requests and tasks are traced.", most=100
)
PARLEY_METRICS_TENANTS = frozenset(
    names(
        "PARLEY_METRICS_TENANTS",
        [],
        "Short names of the tenants that `/metrics` names, separated by commas, 100 at most; all others are one."
        " Whoever reads the metrics sees them.",
    )
)
PARLEY_WORKER_METRICS_ADDRESS = address(
    "PARLEY_WORKER_METRICS_ADDRESS",
    "Where a worker tells at `/metrics` what its processes have counted, to anybody who reaches it: `127.0.0.1:9464`.",
)

PARLEY_OPERATOR_WEBHOOK_URL, PARLEY_OPERATOR_WEBHOOK_SECRET = operators.webhook()

refuse_contradictions(globals(), base=BASE_URL)
