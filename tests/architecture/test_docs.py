"""The pages of docs/ against the code: what is listed there is all there is, and nothing that is gone."""

from __future__ import annotations

import re
from importlib.metadata import distribution, metadata
from pathlib import Path
from xml.etree import ElementTree

import pytest
from django.conf import settings
from prometheus_client import REGISTRY

from apps.edge.errors import STATUS_OF_CODE
from apps.knowledge.metrics import RECALL
from chatbot import events, templates
from chatbot.formats import SUFFIXES
from config import reference
from tests.environment import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
_READERS = ("config/env.py", "config/celery.py", "config/run.py", "local/product.py", "local/__main__.py")


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def first_cells(text: str) -> set[str]:
    """What stands in backquotes in the first column of the page's tables."""
    rows = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def variables_read(path: Path) -> set[str]:
    """What a module takes from os.environ by name."""
    found = re.findall(r"""os\.environ(?:\.get\(|\.setdefault\(|\[)"([A-Z_]+)\"""", path.read_text())
    return set(found) - {"DJANGO_SETTINGS_MODULE"}


def test_every_variable_of_the_environment_is_explained() -> None:
    # tests/config holds the page against what the settings declare; some programs read the environment themselves.
    read = set().union(*(variables_read(ROOT / path) for path in _READERS))
    assert {"PORT", "PARLEY_ASGI_SERVER", "PARLEY_HOME", "PARLEY_SQL_TIMEOUT_MS"} <= read
    assert read <= first_cells(page("configuration"))


def test_every_variable_of_docker_compose_is_explained() -> None:
    named = set(re.findall(r"\$\{([A-Z_]+)[:}?-]", (ROOT / "docker-compose.yml").read_text())) - {"VARIABLE"}
    own = {one.name for one in reference.COMPOSE.variables}
    assert named <= first_cells(page("configuration"))
    assert own <= named


def test_every_error_code_is_explained_with_its_status() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", page("api"), re.MULTILINE))
    assert {code: int(status) for code, status in rows.items()} == {**STATUS_OF_CODE, "internal": 500}


def test_every_frame_is_explained() -> None:
    kinds = {kind.type for kind in vars(events).values() if isinstance(kind, type) and hasattr(kind, "type")}
    words = set(re.findall(r"`([a-z._]+)`", page("websocket")))
    headings = set(re.findall(r"^### (\S+)$", page("websocket"), re.MULTILINE))
    assert kinds <= words | headings
    assert {"ask", "regenerate", "continue", "stop", "resume"} <= headings


def test_prompt_variables_and_the_default_prompt_are_those_of_the_code() -> None:
    text = page("prompts")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE))
    assert rows == templates.VARIABLES
    assert templates.DEFAULT_TEMPLATE in text
    assert set(re.findall(r"`(\w+)`", text.partition("the\nfilters")[2].partition(". Loops")[0])) == templates.FILTERS


def test_every_format_is_listed() -> None:
    listed = set(re.findall(r"`(\.\w+)`", page("ingestion").partition("## Formats")[2].partition("## Limits")[0]))
    assert listed == set(SUFFIXES)


def test_every_metric_is_listed() -> None:
    import config.urls  # noqa: F401, PLC0415 - brings every app's metrics along

    ours = {family.name for family in REGISTRY.collect() if family.name.startswith("parley_")}
    listed = {name.removesuffix("_total") for name in first_cells(page("operations")) if name.startswith("parley_")}
    assert listed == ours | {RECALL}  # which is read from the database when somebody asks


def test_every_command_is_explained() -> None:
    commands = {path.stem for path in ROOT.glob("apps/*/management/commands/*.py")} - {"__init__"}
    assert commands <= first_cells(page("operations"))


def requirements() -> list[str]:
    """The packages that Parley names itself, of every list."""
    lines = [line for path in ROOT.glob("requirements/*.in") for line in path.read_text().splitlines()]
    return [re.split(r"[\[<>=!]", line)[0] for line in lines if line[:1].isalpha()]


def licence_of(package: str) -> str:
    """As its installed metadata says: the expression, else the classifiers, else the first line of its licence, which
    may be a file."""
    said = metadata(package)
    text = said["License"] or (distribution(package).read_text(f"licenses/{said['License-File']}") or "")
    classifiers = [line.rpartition(" :: ")[2] for line in said.get_all("Classifier", []) if "OSI Approved ::" in line]
    return said["License-Expression"] or " or ".join(classifiers) or text.splitlines()[0]


@pytest.mark.parametrize("package", requirements())
def test_the_licence_of_each_direct_dependency_is_listed(package: str) -> None:
    assert f"| {package} | {licence_of(package)} |" in page("licences")


def test_no_licence_is_listed_of_what_is_not_used() -> None:
    listed = re.findall(r"^\| ([A-Za-z][\w.-]+) \| ", page("licences").replace("| package |", ""), re.MULTILINE)
    assert sorted(listed) == sorted(requirements())


OUTSIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]


@pytest.mark.parametrize("path", [*OUTSIDE, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = (path.parent / file) if file else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_quick_start_stays_quick() -> None:
    # `make up` waits for it, and the local embedding model reads about five passages a second.
    assert len(page("quick-start").split()) <= 900


def test_the_index_lists_every_page() -> None:
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", page("README"))) == {path.name for path in PAGES} - {"README.md"}


def test_the_changelog_tells_of_the_version_that_runs() -> None:
    newest = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert newest == settings.VERSION
    assert f"## Notes for {newest}\n" in page("upgrading")
    assert f"\nARG VERSION={newest}\n" in (ROOT / "deploy/Dockerfile").read_text()


@pytest.mark.parametrize("picture", sorted(DOCS.glob("assets/*.svg")), ids=lambda path: path.name)
def test_a_picture_is_small_and_can_be_read_aloud(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()
    assert picture.stat().st_size <= 8 * 1024
    assert all(root.findtext(f"{{http://www.w3.org/2000/svg}}{part}") for part in ("title", "desc"))
