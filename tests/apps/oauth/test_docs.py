"""The program of docs/oauth.md gets its tokens from a running server; a script stands in for its user's browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from tests import factories
from tests.apps.oauth.clients import make_site
from tests.browser.conftest import session_of
from tests.environment import ROOT

AGREE = f"""
import sys
import httpx

with httpx.Client(follow_redirects=True) as browser:
    browser.cookies.set("{settings.SESSION_COOKIE_NAME}", sys.argv[1])
    page = browser.get(sys.argv[2])
    csrf = page.text.split('csrfmiddlewaretoken" value="')[1].split('"')[0]
    browser.post(sys.argv[2], data={{"answer": "allow", "csrfmiddlewaretoken": csrf}})
"""


def test_the_program_gets_its_tokens(database: None, web: str, tmp_path: Path) -> None:
    tenant = factories.make_tenant("acme")
    session = session_of(factories.make_member(tenant=tenant))
    fields = {"client_type": "public", "redirect_uris": "http://127.0.0.1/back", "scopes": ["chat:read", "chat:write"]}
    application, _ = make_site(tenant, **fields)
    program = re.search(r"^```python\n(.*?)^```", (ROOT / "docs/oauth.md").read_text(), re.MULTILINE | re.DOTALL)
    assert program
    (tmp_path / "program.py").write_text(program[1])
    (tmp_path / "agree.py").write_text(AGREE)
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"],
        env={
            **os.environ,
            "URL": web,
            "CLIENT_ID": application.client_id,
            "BROWSER": f"{sys.executable} {tmp_path / 'agree.py'} {session} %s &",
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'results': []" in done.stdout
