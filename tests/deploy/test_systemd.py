"""deploy/systemd against the code: what the units start is there, and takes the arguments it is given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from config.run import command_line
from tests.deploy.proxy import START
from tests.environment import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def settings(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_what_is_there_and_starts_it_again(unit: Path) -> None:
    text = unit.read_text()
    [command] = (line.replace("-%j", "") for line in settings(text, "ExecStart"))
    program, *arguments = shlex.split(command.replace("%i", "8000" if "web" in unit.name else "documents"))
    if arguments:
        assert program == "/srv/parley/.venv/bin/python"
        assert arguments[:2] == ["-m", "config.run"]
        assert arguments[2] == re.sub(r"parley-|-colour|@?\.service", "", unit.name)
        assert command_line(arguments[2:])
        assert settings(text, "NoNewPrivileges") == ["yes"]
    else:
        assert program == f"/srv/parley/{START.relative_to(ROOT)}"
        given = re.findall(r"(NGINX_\w+)=", "\n".join(settings(text, "(?:# )?Environment")))
        assert given
        assert all(f"${{{name}:=" in START.read_text() for name in given)
    assert settings(text, "Restart") == ["always"]
    assert settings(text, "ProtectSystem") == ["strict"]


def test_whoever_has_the_owners_login_shares_its_user_with_nobody() -> None:
    texts = {unit.name: unit.read_text() for unit in UNITS if "nginx" not in unit.name}
    users = {name: settings(text, "User") for name, text in texts.items()}
    assert [name for name, text in texts.items() if "owner.env" in text] == ["parley-layouts.service"]
    assert users.pop("parley-layouts.service") == ["parley-layouts"]
    assert all(user == ["parley"] for user in users.values())
    # systemd gives such a directory to the unit's user.
    assert settings(texts["parley-layouts.service"], "StateDirectory") == ["parley-layouts"]


def test_there_is_one_for_each_process() -> None:
    assert [unit.name for unit in UNITS] == [
        "parley-beat.service",
        "parley-layouts.service",
        "parley-nginx.service",
        "parley-web-colour@.service",
        "parley-web@.service",
        "parley-worker@.service",
    ]
