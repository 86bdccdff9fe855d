from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatbot import templates
from chatbot.events import Source
from chatbot.templates import DEFAULT_TEMPLATE, VARIABLES, TemplateInvalid, check, render
from chatbot.tokens import estimate

SOURCE = Source(1, "chunk", "document", "Manual", ["Setup", "Power"], 2, "Press the button.", 1.0)
VALUES = {
    "assistant": "Ada",
    "tenant": "Acme",
    "user": "",
    "date": "2026-03-31",
    "has_passages": True,
    "passages": "[1] Manual",
    "sources": [SOURCE, replace(SOURCE, n=2, page=None)],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("You are {{ assistant }} of {{ tenant|upper }}.", "You are Ada of ACME."),
        ("{% if user %}{{ user }}{% else %}a visitor{% endif %}", "a visitor"),
        (
            "{% for s in sources %}{{ loop.index }}{% for h in s.heading %}/{{ h }}{% endfor %} {% endfor %}",
            "1/Setup/Power 2/Setup/Power",
        ),
        ("{% for s in sources if s.page %}{{ s.n }}{% endfor %}", "1"),
        ("{{ sources|length }}{{ 'x' ~ 1 }}", "2x1"),
        ("{{ 'a' if has_passages and not user else 'b' }}", "a"),
        ("<b> & {# a comment #}plain", "<b> & plain"),
    ],
)
def test_what_operators_write(template: str, text: str) -> None:
    check(template)
    assert render(template, VALUES) == text


@pytest.mark.parametrize(
    ("template", "line", "says"),
    [
        ("a\nb {{ nobody }}", 2, "unknown variable 'nobody'"),
        ("a\n\n{% if user %}", 3, "[Uu]nexpected end"),
        ("{{ user", 1, "unexpected end"),
        ("{% include 'other' %}", 1, "include"),
        ("\n{% import 'os' as os %}", 2, "import"),
        ("{% for n in range(100000000) %}x{% endfor %}", 1, "loops go over"),
        ("{% for c in passages %}x{% endfor %}", 1, "loops go over"),
        ("{{ 9**9**9 }}", 1, "pow"),
        ("{{ 'x' * 1000000000 }}", 1, "mul"),
        ("{{ '%1000000000d' % 1 }}", 1, "mod"),
        ("{{ user|center(1000000000) }}", 1, "filter 'center'"),
        ("{{ user.__class__.__mro__ }}", 1, "__mro__"),
        ("{{ user['__class__'] }}", 1, "getitem"),
        ("{{ passages.format }}", 1, "format"),
        ("{% for s in sources %}{{ s.secret }}{% endfor %}", 1, "'.secret'"),
        ("{% for user in sources %}{% endfor %}", 1, "already a variable"),
        ("{% set x = 1 %}", 1, "assign"),
        ("{% macro m() %}{% endmacro %}", 1, "macro"),
        ("{{ user is callable }}", 1, "test 'callable'"),
        ("ok\n{{ user|default(1, 2, 3, 4) }}", 2, "arguments"),
        ("ok\n\n{{ loop.index }}", 3, "undefined"),
        ("{% if not has_passages %}\n{{ 1|length }}{% endif %}", 2, "len"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", 1, "nested"),
        ("{% if user %}" * 60 + "{% endif %}" * 60, 1, "nested"),
        (
            "{% for a in sources %}{% for b in sources %}{% for c in sources %}x{% endfor %}{% endfor %}{% endfor %}",
            1,
            "nested",
        ),
        ("x" * (templates.MAX_TEMPLATE + 1), 1, "longer"),
    ],
)
def test_refused_with_its_line(template: str, line: int, says: str) -> None:
    with pytest.raises(TemplateInvalid, match=says) as refused:
        check(template)
    assert refused.value.line == line
    assert refused.value.code == "template_invalid"
    assert refused.value.fields is not None
    assert refused.value.fields["template"].startswith(f"line {line}: ")


def test_the_default_is_valid_and_short() -> None:
    check(DEFAULT_TEMPLATE)
    assert estimate(render(DEFAULT_TEMPLATE, VALUES)) < 200


def test_the_default_admits_that_nothing_was_found() -> None:
    text = render(DEFAULT_TEMPLATE, VALUES | {"has_passages": False, "passages": "", "sources": []})
    assert "do not guess" in text
    assert "[1]" not in text


def test_every_documented_variable_renders() -> None:
    for name in VARIABLES:
        check(f"{{{{ {name} }}}}")


def test_a_value_is_never_a_template() -> None:
    assert render("{{ user }}", VALUES | {"user": "{{ assistant }}"}) == "{{ assistant }}"


def test_the_prompt_is_bounded() -> None:
    many = [replace(SOURCE, text="x" * 1000)] * 500
    with pytest.raises(TemplateInvalid, match="grows beyond"):
        render("{% for s in sources %}{{ s.text }}{% endfor %}", VALUES | {"sources": many})


def test_a_missing_value_is_told() -> None:
    with pytest.raises(TemplateInvalid, match="'user' is undefined"):
        render("{{ user }}", {})


def test_variables_of() -> None:
    assert templates.variables_of("{{ user }}{% for s in sources %}{{ s.n }}{% endfor %}") == {"user", "sources"}


PIECES = """{{ }} {% %} if else endif for endfor in s sources s. .n heading user passages | upper ( ) [ ] ' ~ + 1 not
    and loop . first length default is defined - {# #} a, raw endraw set block filter call with"""
pieces = st.lists(st.sampled_from(["\n", *PIECES.split()]), max_size=25)


@given(pieces.map(" ".join) | st.text())
@example("{% for s in sources %}{{ s.heading|first|first }}{% endfor %}")
def test_only_template_invalid_is_ever_raised(template: str) -> None:
    try:
        check(template)
    except TemplateInvalid as refused:
        line = refused.line
    else:
        line = 1
        render(template, VALUES)
    assert 1 <= line <= template.count("\n") + 1
