"""A missing or wrong setting stops the start with one sentence that names it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.conf import settings

from tests.environment import ENVIRONMENT


def start(**changes: str | None) -> subprocess.CompletedProcess[str]:
    """Load the settings in a fresh process, without any file that could fill in what is missing."""
    env = {**os.environ, **ENVIRONMENT, "PARLEY_HOME": "/nonexistent"}
    for name, value in changes.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    return subprocess.run(
        [sys.executable, "-c", "import config.settings as s; print(s.SECURE_SSL_REDIRECT)"],
        env=env,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "name", ["SECRET_KEY", "PARLEY_KEY_PEPPER", "PARLEY_ENCRYPTION_KEYS", "ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL"]
)
def test_a_missing_setting_is_named_in_one_sentence(name: str) -> None:
    started = start(**{name: None})
    assert started.returncode != 0
    assert started.stderr.startswith(f"Parley cannot start: {name} is not set.")
    assert len(started.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PARLEY_ENV", "staging"),
        ("SECRET_KEY", "tiny"),
        ("PARLEY_MAX_UPLOAD_BYTES", "many"),
        ("PARLEY_MAX_UPLOAD_BYTES", "-1"),
        ("DATABASE_POOL_SIZE", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("PARLEY_ENCRYPTION_KEYS", "not a key"),
        ("DATABASE_URL", "not a url"),
        ("REDIS_URL", "http://127.0.0.1"),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence(name: str, value: str) -> None:
    started = start(**{name: value})
    assert started.returncode != 0
    assert started.stderr.startswith(f"Parley cannot start: {name} ")
    assert value not in started.stderr or name not in {"SECRET_KEY", "PARLEY_ENCRYPTION_KEYS", "DATABASE_URL"}


def test_production_is_the_default_and_redirects_to_tls() -> None:
    assert start(PARLEY_ENV=None).stdout.strip() == "True"
    assert start().stdout.strip() == "False"
