"""Whether a code block is well-formed in its language, and speaks of commands and files that exist."""

from __future__ import annotations

import configparser
import re
import subprocess
import tomllib
from collections.abc import Callable

import hcl2
import yaml

from chatbot import templates
from tests.environment import ROOT
from tests.pages.blocks import Block
from tests.pages.shapes import check_claim, check_component, check_stream, whole_values_in

_MAKE = re.compile(r"(?:^|&& |; )\s*make (?:[A-Z_]+=\S+ )*([a-z][\w-]*)", re.MULTILINE)
_MANAGE = re.compile(r"manage\.py ([a-z]\w*)")
_PATH = re.compile(r"(?<![\w/.$-])(?:apps|bench|chatbot|config|deploy|docs|local|requirements|tests)/[\w./-]*\w")
_DOCKERFILE = re.compile(
    r"(?:#|FROM|ARG|ENV|RUN|COPY|ADD|USER|WORKDIR|VOLUME|EXPOSE|LABEL|HEALTHCHECK|STOPSIGNAL|ENTRYPOINT|CMD|SHELL)\b"
)
_OPERATORS = "deploy/tls/"  # what operators put there themselves
_DJANGO = {"shell", "check", "migrate", "collectstatic", "createsuperuser", "changepassword", "spectacular"}


def check(block: Block) -> None:
    """Raises AssertionError that says what is wrong, or what the language's own parser raises."""
    assert block.language in _CHECKS, f"{block} names no language that is tested: {block.language!r}"
    _CHECKS[block.language](block)
    if source := block.marks.get("from"):
        assert _unindented(block.text) in _unindented((ROOT / source).read_text()), f"{block} is not in {source}"
    if test := block.marks.get("checked by"):
        assert block.page.name in (ROOT / test).read_text(), f"{test} does not mention {block.page.name}"


def check_names(text: str) -> None:
    """The make targets, manage.py commands and files that a page or a script speaks of are there."""
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = {path.stem for path in ROOT.glob("apps/*/management/commands/*.py")} | _DJANGO
    gone = {f"make {name}" for name in _MAKE.findall(text) if name not in targets}
    gone |= {f"manage.py {name}" for name in _MANAGE.findall(text) if name not in commands}
    gone |= {path for path in _PATH.findall(text) if not path.startswith(_OPERATORS) and not (ROOT / path).exists()}
    assert not gone, f"There is no {', '.join(sorted(gone))}."


def _unindented(text: str) -> str:
    return re.sub(r"^[ \t]+", "", text, flags=re.MULTILINE)


def _program(*command: str) -> Callable[[Block], None]:
    def parse(block: Block) -> None:
        done = subprocess.run(command, input=block.text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}: {done.stderr}"

    return parse


def _sh(block: Block) -> None:
    _program("bash", "-n")(block)
    check_names(block.text)


def _python(block: Block) -> None:
    compile(block.text, str(block), "exec")


def _json(block: Block) -> None:
    values = whole_values_in(block.text)
    assert values, f"{block} is empty"
    told_elsewhere = {"not run", "checked by", "from"} & block.marks.keys() or (block.follows and block.follows.runs)
    for value in values:
        if component := block.marks.get("schema"):
            check_component(value, component)
        elif not told_elsewhere:
            check_claim(value)


def _yaml(block: Block) -> None:
    assert all(part is not None for part in yaml.safe_load_all(block.text))


def _ini(block: Block) -> None:
    configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True).read_string(block.text)


def _env(block: Block) -> None:
    known = (ROOT / "docs/configuration.md").read_text()
    for line in block.text.splitlines():
        if line and not line.startswith("#"):
            name, equals, _ = line.partition("=")
            assert equals, f"{block}: {line}"
            assert f"`{name}`" in known, f"{block}: {name} is no variable"


def _nginx(block: Block) -> None:
    depth = 0
    for line in (line.partition("#")[0].strip() for line in block.text.splitlines()):
        assert not line or line[-1] in "{};", f"{block}: {line}"
        depth += line.count("{") - line.count("}")
        assert depth >= 0, f"{block}: {line}"
    assert depth == 0, f"{block}: a brace is open"


def _dockerfile(block: Block) -> None:
    joined = block.text.replace("\\\n", " ")
    assert all(_DOCKERFILE.match(line) for line in joined.splitlines() if line.strip()), block


_CHECKS: dict[str, Callable[[Block], None]] = {
    "sh": _sh,
    "python": _python,
    "js": _program("node", "--input-type=module", "--check", "-"),
    "json": _json,
    "http": lambda block: check_stream(block.text),
    "text": lambda _block: None,
    "jinja": lambda block: templates.check(block.text),
    "yaml": _yaml,
    "toml": lambda block: (tomllib.loads(block.text), None)[1],
    "ini": _ini,
    "env": _env,
    "nginx": _nginx,
    "dockerfile": _dockerfile,
    "terraform": lambda block: (hcl2.loads(block.text), None)[1],
}
