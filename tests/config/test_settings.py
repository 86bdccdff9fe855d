"""A missing, wrong or contradictory setting stops the start with one sentence that names it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from config import reference
from tests.environment import ENVIRONMENT, ROOT

PRODUCTION = {
    "PATH": os.environ["PATH"],
    "PARLEY_HOME": "/nonexistent",
    "SECRET_KEY": "kX2vQ8mZt4WcR7pLs9JhY3nBf6GdA5eU0oTiVyNw",
    "PARLEY_KEY_PEPPER": "Hq7Zb2Xw9Lm4Rt6Yk1Vp8Nc3Js5Gf0DaEuIoTyWz",
    "PARLEY_ENCRYPTION_KEYS": base64.urlsafe_b64encode(bytes(range(200, 232))).decode(),
    "ALLOWED_HOSTS": "parley.acme.com,.acme.org",
    "DATABASE_URL": "postgres://parley_app:s3cr3t@db:5432/parley",
    "REDIS_URL": "redis://:s3cr3t@redis:6379/0",
}
LOCAL = {**PRODUCTION, **ENVIRONMENT, "PARLEY_HOME": "/nonexistent"}


class Started(NamedTuple):
    status: int
    said: str


def starts(*environments: dict[str, str]) -> list[Started]:
    """How Parley starts in each of them, without any file that could fill in what is missing."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.config.starting"],
        input=json.dumps(environments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [Started(**result) for result in json.loads(process.stdout)]


def without(environment: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key != name}


REQUIRED = ("SECRET_KEY", "PARLEY_KEY_PEPPER", "PARLEY_ENCRYPTION_KEYS", "ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL")

TOLD = {
    "PARLEY_OPERATOR_WEBHOOK_URL": "https://pager.acme.com/parley",
    "PARLEY_OPERATOR_WEBHOOK_SECRET": f"whsec_{base64.b64encode(bytes(range(32))).decode()}",
}

# In a production that is otherwise fine: the variable that the sentence names, and what is set.
WRONG: list[tuple[str, dict[str, str]]] = [
    ("PARLEY_ENV", {"PARLEY_ENV": "staging"}),
    ("PARLEY_METRICS_TENANTS", {"PARLEY_METRICS_TENANTS": ",".join(f"tenant-{n}" for n in range(101))}),
    ("PARLEY_WORKER_METRICS_ADDRESS", {"PARLEY_WORKER_METRICS_ADDRESS": "9464"}),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}),
    ("PARLEY_TRACED_PERCENT", {"PARLEY_TRACED_PERCENT": "101"}),
    ("PARLEY_WORKER_METRICS_ADDRESS", {"PARLEY_WORKER_METRICS_ADDRESS": "127.0.0.1:99999"}),
    ("SECRET_KEY", {"SECRET_KEY": "tiny"}),
    ("SECRET_KEY", {"SECRET_KEY": "only-for-checks-" * 4}),
    ("SECRET_KEY", {"SECRET_KEY": "ab" * 30}),
    ("SECRET_KEY", {"SECRET_KEY": PRODUCTION["PARLEY_KEY_PEPPER"]}),
    ("PARLEY_KEY_PEPPER", {"PARLEY_KEY_PEPPER": "please-change-me-please-change-me-please"}),
    ("PARLEY_ENCRYPTION_KEYS", {"PARLEY_ENCRYPTION_KEYS": "not a key"}),
    ("PARLEY_ENCRYPTION_KEYS", {"PARLEY_ENCRYPTION_KEYS": "ключ"}),
    ("PARLEY_ENCRYPTION_KEYS", {"PARLEY_ENCRYPTION_KEYS": ENVIRONMENT["PARLEY_ENCRYPTION_KEYS"]}),
    ("PARLEY_ENCRYPTION_KEYS_FILE", {"PARLEY_ENCRYPTION_KEYS_FILE": "/nonexistent"}),
    ("PARLEY_ENCRYPTION_KEYS_FILE", {"PARLEY_ENCRYPTION_KEYS_FILE": "/dev/null"}),
    ("PARLEY_ENCRYPTION_KEYS_FILE", {"PARLEY_ENCRYPTION_KEYS_FILE": __file__}),
    ("ALLOWED_HOSTS", {"ALLOWED_HOSTS": " , "}),
    ("ALLOWED_HOSTS", {"ALLOWED_HOSTS": "https://parley.acme.com"}),
    ("ALLOWED_HOSTS", {"ALLOWED_HOSTS": "parley.acme.com:8000"}),
    ("ALLOWED_HOSTS", {"ALLOWED_HOSTS": "*", "PARLEY_BASE_URL": "https://parley.acme.com"}),
    ("PARLEY_BASE_URL", {"PARLEY_BASE_URL": "https://elsewhere.com"}),
    ("PARLEY_BASE_URL", {"PARLEY_BASE_URL": "http://parley.acme.com"}),
    ("PARLEY_BASE_URL", {"PARLEY_BASE_URL": "https://parley.acme.com/chat"}),
    ("PARLEY_BASE_URL", {"PARLEY_BASE_URL": "https://me@parley.acme.com"}),
    ("PARLEY_BASE_URL", {"PARLEY_BASE_URL": "https://parley.acme.com:port"}),
    ("PARLEY_BASE_URL", {"PARLEY_BASE_URL": "https://[::1"}),
    ("PARLEY_BASE_URL", {"PARLEY_BASE_URL": "parley.acme.com"}),
    ("CSRF_TRUSTED_ORIGINS", {"CSRF_TRUSTED_ORIGINS": "parley.acme.com"}),
    ("PARLEY_MAX_UPLOAD_BYTES", {"PARLEY_MAX_UPLOAD_BYTES": "many"}),
    ("PARLEY_MAX_UPLOAD_BYTES", {"PARLEY_MAX_UPLOAD_BYTES": "-1"}),
    ("PARLEY_MAX_UPLOAD_BYTES", {"PARLEY_MAX_UPLOAD_BYTES": "9" * 5000}),
    ("PARLEY_MAX_QUESTION_CHARS", {"PARLEY_MAX_QUESTION_CHARS": "٣٠٠"}),
    ("PARLEY_PRIVATE_ENDPOINT_HOSTS", {"PARLEY_PRIVATE_ENDPOINT_HOSTS": "http://tgi:8080"}),
    ("DATABASE_POOL_SIZE", {"DATABASE_POOL_SIZE": "0"}),
    ("DATABASE_POOL_SIZE", {"DATABASE_POOL_SIZE": "100000"}),
    ("PARLEY_SQL_TIMEOUT_MS", {"PARLEY_SQL_TIMEOUT_MS": str(2**31)}),
    ("DATABASE_URL", {"DATABASE_URL": "not a url"}),
    ("DATABASE_URL", {"DATABASE_URL": "mysql://parley:s3cr3t@db/parley"}),
    ("DATABASE_URL", {"DATABASE_URL": "postgres://parley:s3cr3t@db:5432"}),
    ("DATABASE_URL", {"DATABASE_URL": "postgres://parley:s3cr3t@db:543 2/parley"}),
    ("DATABASE_URL", {"DATABASE_URL": "postgres://parley:s3cr3t@db/parley?sslmod=require"}),
    ("DATABASE_URL", {"DATABASE_URL": "postgres://parley:s3/cr3t@db/parley"}),
    ("OWNER_DATABASE_URL", {"OWNER_DATABASE_URL": PRODUCTION["DATABASE_URL"]}),
    ("OWNER_DATABASE_URL", {"OWNER_DATABASE_URL": "db"}),
    ("OPERATOR_DATABASE_URL", {"OPERATOR_DATABASE_URL": PRODUCTION["DATABASE_URL"]}),
    ("OPERATOR_DATABASE_URL", {"OPERATOR_DATABASE_URL": "db"}),
    ("REDIS_URL", {"REDIS_URL": "http://127.0.0.1"}),
    ("REDIS_URL", {"REDIS_URL": "redis://:s3cr3t@redis:six/0"}),
    ("REDIS_URL", {"REDIS_URL": "redis://:s3cr3t@redis:6379/zero"}),
    ("CACHE_URL", {"CACHE_URL": "memcached://cache"}),
    ("CELERY_BROKER_URL", {"CELERY_BROKER_URL": "sqs://key:s3cr3t@"}),
    ("CELERY_BROKER_URL", {"REDIS_URL": "unix:///run/redis.sock"}),
    ("EMAIL_URL", {"EMAIL_URL": "mail.acme.com"}),
    ("EMAIL_URL", {"EMAIL_URL": "smtp+tls://me:s3cr3t@:587"}),
    ("EMAIL_URL", {"EMAIL_URL": "smtp+tls://me:s3cr3t@mail:submission"}),
    ("EMAIL_URL", {"EMAIL_URL": "smtp+ssl://me:s3cr3t@mail?email_use_tls=1"}),
    ("EMAIL_URL", {"EMAIL_URL": "smtp://mail?ssl=on"}),
    ("DEFAULT_FROM_EMAIL", {"DEFAULT_FROM_EMAIL": "Parley"}),
    ("PASSWORD_RESET_TIMEOUT", {"PASSWORD_RESET_TIMEOUT": "1"}),
    ("PARLEY_STATIC_URL", {"PARLEY_STATIC_URL": "http://cdn.acme.com/static/"}),
    ("PARLEY_STATIC_URL", {"PARLEY_STATIC_URL": "cdn.acme.com"}),
    ("SECURE_SSL_REDIRECT", {"SECURE_SSL_REDIRECT": "ture"}),
    ("SECURE_HSTS_SECONDS", {"SECURE_HSTS_SECONDS": "a year"}),
    ("PARLEY_BEHIND_PROXY", {"PARLEY_BEHIND_PROXY": "nginx"}),
    ("PARLEY_TRUSTED_PROXIES", {"PARLEY_BEHIND_PROXY": "on", "PARLEY_TRUSTED_PROXIES": "10.0.0.1/8"}),
    ("PARLEY_TRUSTED_PROXIES", {"PARLEY_BEHIND_PROXY": "on", "PARLEY_TRUSTED_PROXIES": "nginx"}),
    ("PARLEY_TRUSTED_PROXIES", {"PARLEY_TRUSTED_PROXIES": "10.0.0.0/8"}),
    ("PARLEY_ADDRESS_BURST", {"PARLEY_ADDRESS_BURST": "0"}),
    ("PARLEY_CREDENTIAL_REQUESTS_A_MINUTE", {"PARLEY_CREDENTIAL_REQUESTS_A_MINUTE": "-1"}),
    ("LOG_LEVEL", {"LOG_LEVEL": "LOUD"}),
    ("LOG_LEVEL", {"LOG_LEVEL": "\udcff"}),
    ("SENTRY_DSN", {"SENTRY_DSN": "https://sentry.acme.com"}),
    ("PARLEY_OPERATOR_WEBHOOK_URL", {"PARLEY_OPERATOR_WEBHOOK_URL": "pager.acme.com/s3cr3t"}),
    ("PARLEY_OPERATOR_WEBHOOK_URL", {"PARLEY_OPERATOR_WEBHOOK_URL": "https:///s3cr3t"}),
    ("PARLEY_OPERATOR_WEBHOOK_URL", {"PARLEY_OPERATOR_WEBHOOK_URL": "https://me:s3cr3t@pager.acme.com/"}),
    ("PARLEY_OPERATOR_WEBHOOK_SECRET", {"PARLEY_OPERATOR_WEBHOOK_URL": "https://pager.acme.com/s3cr3t"}),
    ("PARLEY_OPERATOR_WEBHOOK_SECRET", TOLD | {"PARLEY_OPERATOR_WEBHOOK_SECRET": "whsec_s3cr3t"}),
    ("PARLEY_OPERATOR_WEBHOOK_SECRET", TOLD | {"PARLEY_OPERATOR_WEBHOOK_SECRET": f"whsec_{'!' * 40}"}),
    ("PARLEY_OPERATOR_WEBHOOK_SECRET", TOLD | {"PARLEY_OPERATOR_WEBHOOK_SECRET": "A" * 40}),
    # Fine one by one, and not together.
    ("CSRF_TRUSTED_ORIGINS", {"CSRF_TRUSTED_ORIGINS": "https://parley.acme.com,http://old.acme.com"}),
    ("PARLEY_MAX_ATTACHMENT_BYTES", {"PARLEY_MAX_UPLOAD_BYTES": "2048", "PARLEY_MAX_ATTACHMENT_BYTES": "2049"}),
    ("PARLEY_OCR_LANGUAGES", {"PARLEY_OCR_ENGINE": "rapidocr", "PARLEY_OCR_LANGUAGES": "deu"}),
    ("PARLEY_TRACED_PERCENT", {"PARLEY_TRACED_PERCENT": "50"}),
    ("PARLEY_OPERATOR_WEBHOOK_SECRET", without(TOLD, "PARLEY_OPERATOR_WEBHOOK_URL")),
    ("PARLEY_OIDC_ISSUER", {"PARLEY_OIDC_ISSUER": "https://login.acme.com"}),
    ("PARLEY_OIDC_ISSUER", {"PARLEY_OIDC_ISSUER": "http://login.acme.com"}),
    ("PARLEY_OIDC_CLIENT_ID", {"PARLEY_OIDC_CLIENT_ID": "parley"}),
    ("PARLEY_OIDC_CLIENT_SECRET", {"PARLEY_OIDC_CLIENT_SECRET": "s3cr3t"}),
    ("PARLEY_OIDC_CLIENT_SECRET_FILE", {"PARLEY_OIDC_CLIENT_SECRET_FILE": "/run/secrets/oidc"}),
    ("PARLEY_OIDC_SIGN_UP", {"PARLEY_OIDC_SIGN_UP": "on"}),
    ("PARLEY_STORAGE_URL", {"PARLEY_STORAGE_URL": "s3://key@documents"}),
    ("PARLEY_STORAGE_URL", {"PARLEY_STORAGE_URL": "s3://:s3cr3t@documents"}),
    ("PARLEY_STORAGE_URL", {"PARLEY_STORAGE_URL": "s3://key:s3cr3t@documents?endpoint=minio:9000"}),
    ("PARLEY_STORAGE_URL", {"PARLEY_STORAGE_URL": "s3://key:s3cr3t@documents?secure=off"}),
    ("PARLEY_MAX_UPLOAD_BYTE", {"PARLEY_MAX_UPLOAD_BYTE": "1000000"}),
    ("PARLEY_BASEURL", {"PARLEY_BASEURL": "https://parley.acme.com"}),
]

FINE: list[dict[str, str]] = [
    {},
    {"PARLEY_BASE_URL": "https://chat.acme.org:8443/"},
    {"ALLOWED_HOSTS": "[::1]", "PARLEY_BASE_URL": "https://[::1]:8443"},
    {"DATABASE_URL": "postgresql://parley_app:p%40ss@db1:5432,db2:5433/parley?sslmode=require"},
    {"OWNER_DATABASE_URL": "postgres://parley_owner:s3cr3t@db:5432/parley"},
    {"OPERATOR_DATABASE_URL": "postgres://parley_operator:s3cr3t@db:5432/parley", "PARLEY_SEARCH_ROLE": "finder"},
    {"REDIS_URL": "unix:///run/redis.sock?db=1", "CELERY_BROKER_URL": "redis+socket:///run/redis.sock"},
    {"CELERY_BROKER_URL": "amqp://parley:s3cr3t@rabbit:5672/parley", "CACHE_URL": "rediss://cache:6380/0"},
    {"EMAIL_URL": "smtp+tls://me%40acme.com:s3cr3t@mail.acme.com:587", "DEFAULT_FROM_EMAIL": "Acme <chat@acme.com>"},
    {"EMAIL_URL": "smtp://mail"},
    {"SECURE_SSL_REDIRECT": "Off", "PARLEY_BEHIND_PROXY": "TRUE", "LOG_LEVEL": ""},
    {"SENTRY_DSN": "https://public@sentry.acme.com/1"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "PARLEY_TRACED_PERCENT": "50"},
    {"PARLEY_TRACED_PERCENT": "10", "PARLEY_OIDC_SIGN_UP": "No"},  # as by default
    {"PARLEY_STORAGE_URL": "s3://documents/parley?region=eu-central-1"},  # boto3 finds the keys
    {"PARLEY_STORAGE_URL": "s3://key:s3cr3t@documents?endpoint=http://minio:9000"},
    {"PARLEY_MAX_UPLOAD_BYTES": "2048"},
    {"PARLEY_OCR_ENGINE": "auto", "PARLEY_OCR_LANGUAGES": "eng,deu"},
    TOLD,
    TOLD | {"PARLEY_OPERATOR_WEBHOOK_URL": "http://alerts:9000/parley"},
    # What Kubernetes sets for a service called parley.
    {"PARLEY_SERVICE_HOST": "10.0.0.1", "PARLEY_PORT": "tcp://10.0.0.1:80", "PARLEY_PORT_80_TCP_ADDR": "10.0.0.1"},
]


def test_a_missing_setting_is_named_in_one_line() -> None:
    for name, started in zip(REQUIRED, starts(*(without(PRODUCTION, name) for name in REQUIRED)), strict=True):
        assert started.said.startswith(f"Parley cannot start: {name} is not set. "), started
        assert started.said.count("\n") == 1
        assert started.status != 0


def test_a_wrong_setting_is_named_in_one_line_that_tells_no_secret() -> None:
    for (name, changes), started in zip(WRONG, starts(*({**PRODUCTION, **one} for _, one in WRONG)), strict=True):
        assert started.said.startswith("Parley cannot start: "), (changes, started)
        assert name in started.said.split(), (changes, started)
        assert started.said.count("\n") == 1
        assert "s3cr3t" not in started.said
        assert started.status != 0
        if name in REQUIRED[:3]:
            assert changes.get(name, "-") not in started.said


def test_what_is_right_starts() -> None:
    for changes, started in zip(FINE, starts(*({**PRODUCTION, **one} for one in FINE)), strict=True):
        assert started == (0, f"{changes.get('SECURE_SSL_REDIRECT') != 'Off'}\n"), changes


def test_no_variable_that_is_declared_anywhere_is_taken_for_a_typing_error() -> None:
    names = [one.name for part in (reference.PROCESSES, reference.COMPOSE) for one in part.variables]
    assert [start.status for start in starts(*({**PRODUCTION, name: "1"} for name in names))] == [0] * len(names)


def test_production_is_the_default_and_redirects_to_tls() -> None:
    assert [started.said for started in starts(PRODUCTION, LOCAL)] == ["True\n", "False\n"]


@pytest.mark.parametrize("environment", ["production", "local"])
def test_production_takes_nothing_from_the_local_stack(
    tmp_path_factory: pytest.TempPathFactory, environment: str
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / "env").write_text("".join(f"{name}={value}\n" for name, value in ENVIRONMENT.items()))
    [started] = starts({"PATH": os.environ["PATH"], "PARLEY_HOME": str(home), "PARLEY_ENV": environment})
    assert (started.status == 0) == (environment == "local")
    assert ("SECRET_KEY is not set" in started.said) == (environment == "production")


def test_the_reference_is_what_the_settings_declare() -> None:
    """Mend it with `python -m config.reference`."""
    parts = reference.declared()
    assert reference.PAGE.read_text() == reference.page(parts)
    assert reference.EXAMPLE.read_text() == reference.example(parts)


def test_the_keyring_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key = PRODUCTION["PARLEY_ENCRYPTION_KEYS"]
    older = base64.urlsafe_b64encode(bytes(range(100, 132))).decode()
    alone = without(PRODUCTION, "PARLEY_ENCRYPTION_KEYS") | {"PARLEY_ENCRYPTION_KEYS_FILE": str(file)}
    file.write_text(f"{key}\n{older}\n")
    [started] = starts(alone)
    assert started.status == 0
    file.write_text(f"{key}\nno key\n")
    [started] = starts(alone)
    assert "PARLEY_ENCRYPTION_KEYS_FILE holds something that is not a Fernet key" in started.said
    assert key not in started.said


def test_a_cdn_hands_static_files_out_and_pages_allow_it_alone() -> None:
    cdn = "https://cdn.acme.com"
    program = (
        "import json, config.settings as s;"
        "print(json.dumps([s.STATIC_URL, s.PARLEY_STATIC_PATH, s.CONTENT_SECURITY_POLICY['DIRECTIVES']]))"
    )

    def started(**more: str) -> tuple[str, str, dict[str, list[str]]]:
        printed = subprocess.check_output([sys.executable, "-c", program], env=PRODUCTION | more, cwd=ROOT)
        address, path, policy = json.loads(printed)
        return address, path, policy

    address, path, policy = started(PARLEY_STATIC_URL=f"{cdn}/parley/static")
    assert (address, path) == (f"{cdn}/parley/static/", "/static/")
    assert {name for name, allowed in policy.items() if cdn in allowed} == {
        "script-src",
        "style-src",
        "font-src",
        "img-src",
    }
    address, _, plain = started()
    assert address == "/static/"
    assert {name: [one for one in allowed if one != cdn] for name, allowed in policy.items()} == plain
