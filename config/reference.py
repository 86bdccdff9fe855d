"""Writes docs/configuration.md and .env.example from what the settings declare: `python -m config.reference`."""

from __future__ import annotations

import importlib
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from config.env import BASE_DIR, Section, Variable, sections

PAGE = BASE_DIR / "docs" / "configuration.md"
EXAMPLE = BASE_DIR / ".env.example"
WIDTH = 120

# Enough to load the settings with; what is declared depends on none of it.
STAND_INS = {
    "PARLEY_ENV": "local",
    "PARLEY_ENCRYPTION_KEYS": "b25seS1mb3ItY2hlY2tzLW9ubHktZm9yLWNoZWNrcyE=",
    "SECRET_KEY": "only-for-checks-" * 3,
    "PARLEY_KEY_PEPPER": "only-for-checks-" * 3,
    "ALLOWED_HOSTS": "127.0.0.1",
    "PARLEY_BASE_URL": "http://127.0.0.1:8000",
    "DATABASE_URL": "postgres://app:app@127.0.0.1:9/parley",
    "OWNER_DATABASE_URL": "postgres://owner:owner@127.0.0.1:9/parley",
    "REDIS_URL": "redis://127.0.0.1:9",
}

PROCESSES = Section(
    "Processes",
    "Read by `python -m config.run` and `make up`, which start them.",
    [
        Variable("PARLEY_ASGI_SERVER", "`uvicorn` serves with uvicorn instead.", "daphne"),
        Variable(
            "PROMETHEUS_MULTIPROC_DIR",
            "A directory of the Prometheus client in which the processes of one host share their counts; `make up` sets"
            " it, so that `/metrics` tells of the worker as well.",
            "none",
        ),
        Variable("PORT", "The port of `make up`; also `make up PORT=8001`.", "8000"),
    ],
)

FIRST_START = Section(
    "First start",
    "Read by `manage.py init` alone, which asks for what is not set, and writes none of them down.",
    [
        Variable("INIT_ADMIN_EMAIL", "The first administrator.", "none"),
        Variable("INIT_ADMIN_PASSWORD", "Their password; without it one is made up and shown once.", "none"),
        Variable("INIT_TENANT", "The short name of a first tenant, such as acme.", "none"),
        Variable("INIT_CHAT_URL", "The chat model's server.", "none"),
        Variable("INIT_CHAT_PROTOCOL", "Its protocol (inference.md).", "openai"),
        Variable("INIT_CHAT_MODEL", "The model, as the server names it.", "none"),
        Variable("INIT_CHAT_KEY", "Its API key.", "none"),
        Variable("INIT_EMBEDDING_URL", "The embedding model's server.", "none"),
        Variable("INIT_EMBEDDING_PROTOCOL", "Its protocol.", "openai"),
        Variable("INIT_EMBEDDING_MODEL", "The model, as the server names it.", "none"),
        Variable("INIT_EMBEDDING_KEY", "Its API key.", "none"),
    ],
)

COMPOSE = Section(
    "Docker compose",
    "Read by docker-compose.yml alone, which makes `DATABASE_URL`, `OWNER_DATABASE_URL`, `REDIS_URL` and `CACHE_URL`\n"
    "out of them. Passwords stand in addresses there: letters and digits only.",
    [
        Variable("POSTGRES_PASSWORD", "The password of PostgreSQL's superuser.", None),
        Variable("POSTGRES_OWNER_PASSWORD", "The password of the role that owns the tables.", None),
        Variable("POSTGRES_APP_PASSWORD", "The password of the product's restricted role.", None),
        Variable("POSTGRES_OPERATOR_PASSWORD", "The password of the operators' role, which reads alone.", None),
        Variable("REDIS_PASSWORD", "The password of both Redis servers.", None),
        Variable("HTTP_PORT", "The port on which nginx is reached over HTTP.", "80"),
        Variable("HTTPS_PORT", "The port on which nginx is reached over HTTPS.", "443"),
        Variable("TLS_DIRECTORY", "The directory of the certificate and its key.", "./deploy/tls"),
        Variable("NGINX_TLS_CERTIFICATE", "The certificate's file in nginx's container; without it no HTTPS.", "none"),
        Variable("NGINX_TLS_KEY", "The file of its key.", "none"),
        Variable("NGINX_TRUSTED_PROXIES", "Networks of proxies in front of nginx, whose word it takes.", "none"),
        Variable("WEB_REPLICAS", "Web processes.", "2"),
        Variable(
            "WORKER_CONCURRENCY",
            "Documents that a worker ingests at the same time, large ones apart; each more takes 3 GiB more in its"
            " limit of memory.",
            "2",
        ),
        Variable("POSTGRES_MAX_CONNECTIONS", "Connections that PostgreSQL takes.", "200"),
        Variable("POSTGRES_SHARED_BUFFERS", "PostgreSQL's own cache; a quarter of the memory is usual.", "512MB"),
        Variable("TGI_MODEL", "What the profile `tgi` serves.", "Qwen/Qwen2.5-7B-Instruct"),
        Variable("VLLM_MODEL", "What the profile `vllm` serves.", "Qwen/Qwen2.5-7B-Instruct"),
        Variable("LLAMACPP_MODEL", "What the profile `llamacpp` serves.", "Qwen/Qwen2.5-3B-Instruct-GGUF:Q4_K_M"),
        Variable("LLAMACPP_CONTEXT", "Tokens of context that its two slots share.", "16384"),
        Variable("TEI_MODEL", "What the profile `tei` embeds with.", "BAAI/bge-m3"),
        Variable("HF_TOKEN", "A token of the Hugging Face hub, for models that ask for one.", "none"),
        Variable("IMAGE_PARLEY", "Parley's image.", "parley:local"),
        Variable("IMAGE_NGINX", "nginx's image.", "parley-nginx:local"),
    ],
)

INTRODUCTION = """\
# Configuration

Parley reads its settings from environment variables. A file `.env` in the checkout gives what the environment itself
does not; so does the file `env` that `make up` writes into `PARLEY_HOME`, except in production. `manage.py init` writes
a `.env`, and `.env.example` lists every variable. `make up` sets everything by itself.

A required variable that is missing, a value that makes no sense, settings that contradict each other and a misspelt
`PARLEY_` variable stop the start with a sentence that names them. Switches are `on` or `off`.

This page is written by `python -m config.reference` from `config/settings.py`.
"""

CLOSING = """\
## Other names

`make up DETACH=1` returns when Parley is ready and leaves it running. `make PYTHON=/path/to/python3.12 up` names the
Python that `.venv` is made with. Variables that begin with `DEMO_` and `LOCAL_` in `var/env` belong to the local stack
and are written anew at each start.
"""

HEADER = """\
# Parley's settings: copy this file to .env and set what is asked for, or let `manage.py init` write it.
# docs/configuration.md is the same as a page. Values that are commented out are the defaults.
"""


def declared() -> list[Section]:
    """Every section, those that only other programs read last. Loads the settings."""
    importlib.import_module("config.settings")
    return [*sections, PROCESSES, FIRST_START, COMPOSE]


def page(parts: list[Section]) -> str:
    return "\n".join([INTRODUCTION, *(_table(part) for part in parts), CLOSING])


def _table(part: Section) -> str:
    rows = [f"| `{one.name}` | {_shown(one.default)} | {one.meaning} |\n" for one in part.variables]
    introduction = f"{part.introduction}\n\n" if part.introduction else ""
    return f"## {part.title}\n\n{introduction}| variable | default | meaning |\n|---|---|---|\n{''.join(rows)}"


def _shown(default: str | None) -> str:
    if default is None:
        return "**required**"
    return f"`{default}`" if re.fullmatch(r"[^\s`]*[^\s`\d][^\s`]*", default) and default not in _PLAIN else default


_PLAIN = ("none", "on", "off")


def example(parts: list[Section]) -> str:
    return HEADER + "".join(f"\n{line}" for part in parts for line in _lines(part)) + "\n"


def _lines(part: Section) -> Iterator[str]:
    yield f"# --- {part.title} ".ljust(WIDTH, "-")
    for one in part.variables:
        told, line = one.meaning, f"{one.name}="
        if one.default is not None:
            value = one.default if _assignable(one.default) else ""
            told += "" if value else f" Default: {one.default}."
            line = f"# {line}{value}"
        yield ""
        yield from textwrap.wrap(told.replace("`", ""), WIDTH, initial_indent="# ", subsequent_indent="# ")
        yield line
    yield ""


def _assignable(default: str) -> bool:
    return not re.search(r"[\s`]", default) and default != "none"


def main() -> None:
    for name in list(os.environ):
        if name.startswith("PARLEY_"):
            del os.environ[name]
    os.environ.update(STAND_INS)
    parts = declared()
    written: tuple[tuple[Path, str], ...] = ((PAGE, page(parts)), (EXAMPLE, example(parts)))
    for path, text in written:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
