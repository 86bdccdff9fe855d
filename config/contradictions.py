"""Settings that are fine one by one and cannot work together. Each stops the start, or starts a broken product."""

from __future__ import annotations

import base64
import difflib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.http.request import split_domain_port, validate_host

from config.env import refuse, same, sections

_PLACEHOLDER = re.compile(r"only.for.checks|only.tests|change.?(me|this)|example|insecure|secret.?key", re.IGNORECASE)
_CLOSE = 0.85  # of difflib's likeness, above which a name was meant to be another


def unknown_variables(environment: Mapping[str, str]) -> None:
    """Refuse a misspelt PARLEY_ variable, which would have no effect. Names that resemble none are somebody else's:
    Kubernetes, for one, sets PARLEY_SERVICE_HOST for a service called parley."""
    known = {variable.name for part in sections for variable in part.variables}
    for name in sorted(environment):
        if name.startswith("PARLEY_") and name not in known:
            meant = difflib.get_close_matches(name, known, n=1, cutoff=_CLOSE)
            if meant:
                refuse(f"{name} is not a setting. Did you mean {meant[0]}?")


def addresses(*, base: SplitResult, allowed_hosts: Sequence[str], trusted_origins: Sequence[str], local: bool) -> None:
    """PARLEY_BASE_URL against what the product answers to."""
    if not validate_host(split_domain_port(base.netloc)[0], allowed_hosts):
        refuse(
            f"PARLEY_BASE_URL leads to {base.hostname}, which ALLOWED_HOSTS does not hold: Parley would refuse its own"
            " address."
        )
    for origin in trusted_origins:
        if not re.fullmatch(r"https?://[^/\s]+", origin):
            refuse(f"CSRF_TRUSTED_ORIGINS lists origins such as https://parley.example.com, but holds {origin!r}.")
    if local:
        return
    if "*" in allowed_hosts:
        refuse("ALLOWED_HOSTS holds *, which lets anybody choose Parley's name. List the names that people use.")
    if base.scheme != "https":
        refuse(
            "PARLEY_BASE_URL begins with http://, but in production cookies travel over HTTPS only: nobody could log"
            " in."
        )
    if plain := [origin for origin in trusted_origins if not origin.startswith("https://")]:
        refuse(
            f"CSRF_TRUSTED_ORIGINS lists {plain[0]}, but in production cookies travel over HTTPS only: its forms would"
            " all be refused."
        )


def databases(aliases: Mapping[str, Mapping[str, Any]]) -> None:
    owner = aliases.get("owner")
    if owner and owner["USER"] == aliases["default"]["USER"]:
        refuse("DATABASE_URL and OWNER_DATABASE_URL name the same role, but the product's must not own the tables.")
    operator = aliases.get("operator")
    if operator and operator["USER"] in (aliases["default"]["USER"], owner and owner["USER"]):
        refuse("OPERATOR_DATABASE_URL names a role that another address names, but the operators' is one of its own.")


def proxies(trusted: Sequence[Any], *, behind: bool) -> None:
    if trusted and not behind:
        refuse("PARLEY_TRUSTED_PROXIES names proxies, but PARLEY_BEHIND_PROXY is off, so that nobody is believed.")


MOST_NAMED_TENANTS = 100  # each adds some twenty lines to every scrape


def attachments(*, most: int, upload: int) -> None:
    if most > upload:
        refuse(
            f"PARLEY_MAX_ATTACHMENT_BYTES is larger than PARLEY_MAX_UPLOAD_BYTES, {upload}, which a proxy lets through."
        )


# What has no effect while something else is not set; people set it because they take that for set.
_USELESS_WITHOUT = {
    "PARLEY_TRACED_PERCENT": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "PARLEY_OPERATOR_WEBHOOK_SECRET": "PARLEY_OPERATOR_WEBHOOK_URL",
    "PARLEY_OIDC_CLIENT_ID": "PARLEY_OIDC_ISSUER",
    "PARLEY_OIDC_CLIENT_SECRET": "PARLEY_OIDC_ISSUER",
    "PARLEY_OIDC_CLIENT_SECRET_FILE": "PARLEY_OIDC_ISSUER",
    "PARLEY_OIDC_DOMAINS": "PARLEY_OIDC_ISSUER",
    "PARLEY_OIDC_SIGN_UP": "PARLEY_OIDC_ISSUER",
}


def incomplete(environment: Mapping[str, str]) -> None:
    """Refuse what does nothing. A default that is written out changes nothing either way."""
    defaults = {variable.name: variable.default for part in sections for variable in part.variables}
    for name, needed in _USELESS_WITHOUT.items():
        value = environment.get(name, "").strip()
        if value and not same(value, defaults[name]) and not environment.get(needed, "").strip():
            refuse(f"{name} is set, but {needed} is not, without which it does nothing.")


def recognition(*, engine: str, languages: Collection[str]) -> None:
    if languages and engine == "rapidocr":
        refuse("PARLEY_OCR_LANGUAGES are Tesseract's, but PARLEY_OCR_ENGINE is rapidocr, which knows none of them.")


def named_tenants(named: Collection[str]) -> None:
    if len(named) > MOST_NAMED_TENANTS:
        refuse(f"PARLEY_METRICS_TENANTS names {len(named)} tenants, but {MOST_NAMED_TENANTS} is the most.")


def broker(*, url: str, redis_url: str) -> None:
    """kombu has its own word for a socket file."""
    if url == redis_url and urlsplit(url).scheme == "unix":
        refuse(
            "CELERY_BROKER_URL is not set, and REDIS_URL is a socket file, which the broker writes as"
            " redis+socket:///path/to/redis.sock."
        )


def placeholder_secrets(secrets: Mapping[str, str], encryption_keys: Sequence[str]) -> None:
    """Refuse in production what was written by hand or copied from a page: everybody knows it."""
    for name, value in secrets.items():
        if _PLACEHOLDER.search(value) or len(set(value)) < 10:
            refuse(
                f"{name} is a placeholder and no secret. Generate one: manage.py init does, or openssl rand -hex 32."
            )
    if len(set(secrets.values())) < len(secrets):
        refuse(f"{' and '.join(secrets)} are the same. Generate each by itself.")
    # 32 random bytes are never all ASCII.
    if any(base64.urlsafe_b64decode(key).isascii() for key in encryption_keys):
        refuse(
            "PARLEY_ENCRYPTION_KEYS holds a key that spells a text and is no secret. Generate it: manage.py init does."
        )


def refuse_contradictions(settings: Mapping[str, Any], *, base: SplitResult) -> None:
    """Look at all of config.settings, once it has read everything."""
    unknown_variables(os.environ)
    incomplete(os.environ)
    addresses(
        base=base,
        allowed_hosts=settings["ALLOWED_HOSTS"],
        trusted_origins=settings["CSRF_TRUSTED_ORIGINS"],
        local=settings["LOCAL"],
    )
    databases(settings["DATABASES"])
    proxies(settings["PARLEY_TRUSTED_PROXIES"], behind=settings["PARLEY_BEHIND_PROXY"])
    attachments(most=settings["PARLEY_MAX_ATTACHMENT_BYTES"], upload=settings["PARLEY_MAX_UPLOAD_BYTES"])
    recognition(engine=settings["PARLEY_OCR_ENGINE"], languages=settings["PARLEY_OCR_LANGUAGES"])
    named_tenants(settings["PARLEY_METRICS_TENANTS"])
    broker(url=settings["CELERY_BROKER_URL"], redis_url=settings["REDIS_URL"])
    if not settings["LOCAL"]:
        secrets = {name: settings[name] for name in ("SECRET_KEY", "PARLEY_KEY_PEPPER")}
        placeholder_secrets(secrets, settings["PARLEY_ENCRYPTION_KEYS"])
