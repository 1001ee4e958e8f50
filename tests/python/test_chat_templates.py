"""Chat templates against Jinja as transformers sets it up: the same text, or a refusal that says so.

Tables go by family (filter x arguments x values), and a grammar with a fixed seed writes whole templates.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tte
from transformers.utils.chat_template_utils import _compile_jinja_template

MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "Hello, world"},
    {"role": "assistant", "content": [{"type": "text", "text": "ok"}, {"type": "text", "text": "yes"}]},
]
# Python warns of code that Jinja writes for templates that cannot work.
pytestmark = pytest.mark.filterwarnings("ignore::SyntaxWarning")

JINJA = _compile_jinja_template("x").environment

VALUES = """none; true; 0; -3; 2.5; 1e300; ''; 'abc'; 'A b'; ' x\\n y '; '42'; '4.7'; 'ß ǆ İ'; 'ΑΣ ΟΔΟΣ'; []; [3, 1, 2];
    ['b', 'A', 'a']; [1, 'a']; [[1, 2], [0]]; (1, 2); {}; {'b': 1, 'a': 2}; [{'a': 3, 'r': 'x'}, {'a': 1, 'r': 'y'}];
    [none, 1, '']; nothing; range(3); {'b': 1}.items(); {'b': 1}.keys(); ['b', 'a']|map('upper'); namespace(a=1);
    'a,b,,c'; '٣'; '1_000'; messages; messages[0].content; [1.0, true, 1]""".replace("\n    ", " ").split("; ")

FILTERS = {
    "trim": ["", "('a')", "(chars=' x')", "(none)"],
    "length": [""],
    "default": ["", "('d')", "('d', true)", "(default_value='d', boolean=true)"],
    "string": [""],
    "upper": [""],
    "lower": [""],
    "title": [""],
    "capitalize": [""],
    "safe": ["", "|length", "|upper"],
    "replace": ["('a', 'b')", "('a', 'b', 1)", "('', '-')", "(old='a', new='b')", "('a')"],
    "join": ["", "(', ')", "(d='-')", "(', ', 'a')", "(attribute='role')"],
    "list": [""],
    "first": [""],
    "last": [""],
    "reverse": ["", "|list"],
    "items": ["|list"],
    "sort": ["", "(true)", "(reverse=true)", "(case_sensitive=true)", "(attribute='a')", "(attribute='r,a')"],
    "dictsort": ["", "(true)", "(by='value')", "(reverse=true)", "(false, 'value', true)"],
    "unique": ["|list", "(true)|list", "(attribute='a')|list"],
    "map": [
        "('upper')|list",
        "(attribute='a')|list",
        "(attribute='a', default='z')|list",
        "('default', 'q')|list",
        "()|list",
    ],
    "select": ["|list", "('string')|list", "('equalto', 1)|list", "('gt', 1)|list", ""],
    "reject": ["|list", "('none')|list"],
    "selectattr": ["('a')|list", "('a', 'equalto', 3)|list", "('role', 'in', ['user'])|list"],
    "rejectattr": ["('a')|list", "('a', 'defined')|list"],
    "int": ["", "(5)", "(default='x')", "(0, 16)", "(base=2)"],
    "float": ["", "(1.5)", "(default='x')"],
    "abs": [""],
    "round": ["", "(1)", "(0, 'ceil')", "(1, 'floor')", "(method='ceil')", "(-1)"],
    "sum": ["", "(attribute='a')", "(start=5)"],
    "max": ["", "(true)", "(attribute='a')"],
    "min": ["", "(case_sensitive=true)"],
    "tojson": ["", "(indent=2)", "(true)", "(sort_keys=true)", "(separators=(',', ':'))", "(indent='\t')"],
    "indent": ["", "(2)", "(2, true, true)", "('>')", "(width=1, first=true)"],
}
TESTS = """defined; undefined; none; string; mapping; iterable; sequence; number; integer; float; boolean; true; false;
    callable; lower; upper; odd; even; divisibleby(3); divisibleby 2; sameas(none); in [1, 'a', none]; in 'abc';
    in {'abc': 1};    equalto 1; eq(2.5); ne none; lt 3; gt('a'); ge(2)""".replace("\n    ", " ").split("; ")
METHODS = """strip(); strip('a'); lstrip(); rstrip('y'); upper(); lower(); title(); capitalize(); split(); split(',');
    split(',', 1); split(none, 1); split(sep=' ', maxsplit=1); rsplit(',', 1); splitlines(); splitlines(true);
    startswith('a'); startswith(('x', 'a')); startswith('b', 1); endswith('c'); find('b'); rfind('b'); find('b', 2);
    replace('a', 'b'); replace('', '-'); count('a'); count(''); index(1); join(['x', 'y']); removeprefix('a');
    removesuffix('c'); isdigit(); isnumeric(); isspace(); isalpha(); isalnum(); isupper(); islower(); zfill(5);
    format(1); items()|list; keys()|list; values()|list; get('b'); get('z', 5); get(key='b'); copy(); append(1);
    pop()""".replace("\n    ", " ").split("; ")
LOOKUPS = ["a", "x.y", "role", "items is defined", "foo is defined", "upper is defined", "__class__", "_x"]
INDICES = ["0", "-1", "9", "'a'", "1:", ":-1", "::-1", "5:1:-2", "none:2", "true", "1.0", "none", "'upper'"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", ">=", "in", "not in", "and", "or"]
OPERANDS = """none; true; 0; 7; -3; 2.5; ''; 'abc'; 'b'; []; [1, 2]; ['b']; (1, 2); {'b': 1}; nothing; range(3);
    9007199254740993""".replace("\n    ", " ").split("; ")
STATEMENTS = [
    "{% for x in [1, 2, 3] %}{{ loop.index }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}"
    "{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x // 2) }}"
    "{{ loop.depth }}{% endfor %}",
    "{% for x in [1, 2, 3]|select %}{{ x }}{{ loop.nextitem }}{{ loop.length }}{{ loop.last }}{% endfor %}",
    "{% for x in [1, 2, 3] if x > 1 %}{{ loop.revindex }}{% else %}none{% endfor %}",
    "{% for x in [1] %}{% break %}{% else %}E{% endfor %}{% for x in nothing %}{% else %}E{% endfor %}",
    "{% for a, b in [(1, 2), 'xy'] %}{{ a }}{{ b }}{% endfor %}",
    "{% set g = [1, 2, 3]|select %}{{ g|first }}{{ g|list }}{{ g|list }}{% if g %}true{% endif %}",
    "{% set g = [1, 2, 3]|select %}{% for x in g %}{{ x }}{% break %}{% endfor %}{{ g|list }}",
    "{% set ns = namespace(x=1) %}{% set g = [ns]|map(attribute='x') %}{% set ns.x = 2 %}{{ g|list }}",
    "{% set ns = namespace(l=none) %}{% for x in [1, 1, 2] if x != ns.l %}{{ x }}{% set ns.l = x %}{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = i + 5 %}{{ x }}{% endfor %}{{ x }}",
    "{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% macro f(a, b=a) %}[{{ a }}|{{ b }}]{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=1) }}{{ f() }}{{ f(a=1, b=4) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}",
    "{% macro f() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ f() }}",
    "{% macro f(x) %}{{ varargs }}{% endmacro %}{{ f(1, 2) }}",
    "{% set x | upper %}ab{% endset %}{{ x }}{% filter replace('a', 'b')|upper %}ab{% endfilter %}",
    "{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}{{ q }}",
    "a\n  {%- if true %}\nb{% endif -%}\n c\n  {% if true %}  \n x {% endif %}\n{%+ raw %}{{ x }}{% endraw %}",
    "{% for i in [1] %}{{ loop is defined }}{% endfor %}{{ loop is defined }}",
    "{% set ns = namespace() %}{% for i in [1, 2] %}{% set ns.l = loop %}{% endfor %}{{ ns.l.nextitem }}",
    "{% if messages if x else z %}{% endif %}",
    "{{ 'a' 'b' }}{{ 1 < 2 < 3 }}{{ -2 ** 2 }}{{ 1 if false }}{{ 0.1 + 0.2 }}{{ 1e16 }}{{ 1_000 }}",
    "{{ 0x1F }}",
    "{{ 007 }}",
    "{{ x is is defined }}",
]
# What chat templates use is never refused.
SUPPORTED = [
    "{{ messages|map(attribute='role')|join(', ') }}{{ messages|selectattr('role', 'equalto', 'user')|list|length }}",
    "{{ messages[::-1]|map(attribute='role')|join }}{{ messages|rejectattr('role', 'in', ['user'])|list|tojson }}",
    "{{ messages|tojson(indent=2) }}{{ {'b': 1, 'a': none}|tojson(sort_keys=true) }}",
    "{{ 'ü'|tojson(ensure_ascii=true) }}",
    "{{ ['a', none, 1.0, 1e16, 'it\\'s'] }}{{ none|default('d', true) }}{{ -7 // 2 ~ -7 % 3 }}{{ dict(a=1) }}",
    "{{ 'hello WORLD'|capitalize ~ 'x y'|title }}{{ 'line\n\nline'|indent(2, true, true) }}",
    "{{ 42|round }}{{ true|abs }}",
    "{{ 'invalid'|int(default=99) }}{{ ([{'age': 3}, {'age': 9}]|max(attribute='age')).age }}{{ 2.675|round(2) }}",
    "{{ [{'a': 2, 'b': 1}, {'a': 1, 'b': 3}]|sort(attribute='a,b')|tojson }}{{ ['b', 'A']|sort(reverse=true)|join }}",
    "{% for key, value in {'a': 1}|items %}{{ key }}{{ value }}{% endfor %}{{ '²'.isdigit() }}{{ '½'.isnumeric() }}",
]


class Templates:
    """Renders with a tokenizer that has nothing but a few letters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "vocab.json").write_text(json.dumps({"a": 0, "b": 1}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Qwen2Tokenizer"}))

    def ours(self, source: str) -> str:
        (self.folder / "chat_template.jinja").write_text(source, newline="")
        return tte.Tokenizer(self.folder).apply_chat_template(MESSAGES, add_generation_prompt=False)

    def theirs(self, source: str) -> str | Exception:
        try:
            return JINJA.from_string(source).render(
                messages=copy.deepcopy(MESSAGES), tools=None, documents=None, add_generation_prompt=False
            )
        except Exception as error:  # Whatever Jinja raises.
            return error

    def check(self, sources: Iterator[str]) -> None:
        """The same text, an error of both, or a refusal that says that something is not supported."""
        wrong, equal = [], 0
        for source in sources:
            expected = self.theirs(source)
            try:
                got = self.ours(source)
            except tte.Error as error:
                said = "supported by tte" in str(error) or not isinstance(expected, str)
                if not said or len(str(error)) >= 500 or "\n" in str(error):
                    wrong.append(f"{source}: {error} instead of {expected!r}")
                continue
            equal += 1
            if got != expected:
                wrong.append(f"{source}: {got!r} instead of {expected!r}")
        assert not wrong, f"{len(wrong)} wrong, {equal} equal:\n" + "\n".join(wrong[:40])
        assert equal > 0


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    return Templates(tmp_path_factory.mktemp("templates"))


def test_what_chat_templates_use_is_supported(templates: Templates) -> None:
    for source in SUPPORTED:
        assert templates.ours(source) == templates.theirs(source)


@pytest.mark.parametrize("name", FILTERS)
def test_filters(templates: Templates, name: str) -> None:
    templates.check("{{ (" + v + ")|" + name + form + " }}" for v in VALUES for form in FILTERS[name])


@pytest.mark.parametrize("value", VALUES)
def test_values(templates: Templates, value: str) -> None:
    """Tests, methods, lookups and loops of a value."""
    templates.check(
        itertools.chain(
            ("{{ (" + value + ") is " + test + " }}" for test in TESTS),
            ("{{ (" + value + ")." + method.strip() + " }}" for method in METHODS),
            ("{{ (" + value + ")." + lookup + " }}" for lookup in LOOKUPS),
            ("{{ (" + value + ")[" + index + "] }}" for index in INDICES),
            ("{{ " + form.replace("@", value) + " }}" for form in ("@", "[@]", "not (@)", "-(@)")),
            ["{% for x in (" + value + ") %}<{{ x }}>{% else %}E{% endfor %}"],
        )
    )


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators(templates: Templates, operator: str) -> None:
    # Python itself would compute for ever with such an exponent.
    right = OPERANDS[:-1] if operator == "**" else OPERANDS
    templates.check("{{ (" + a + ") " + operator + " (" + b + ") }}" for a in OPERANDS for b in right)


def test_statements(templates: Templates) -> None:
    templates.check(iter(STATEMENTS))


class Grammar:
    """Writes templates, most of which run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def expression(self, depth: int) -> str:
        pick = self.rng.choice
        if depth <= 0 or self.rng.random() < 0.2:
            return pick([pick(VALUES).strip(), "x", "ns.a", "messages"])
        inner = self.expression(depth - 1)
        match self.rng.randrange(8):
            case 0 | 1:
                name = pick(list(FILTERS))
                return f"(({inner})|{name}{pick(FILTERS[name])})"
            case 2:
                operator = pick([o for o in OPERATORS if o != "**"])  # Powers of powers end in no time of ours.
                return f"({inner} {operator} {self.expression(depth - 1)})"
            case 3:
                return f"({inner} is {pick(TESTS).strip()})"
            case 4:
                return f"({inner}).{pick(METHODS).strip()}"
            case 5:
                return f"({inner})[{pick(INDICES)}]"
            case 6:
                return f"({inner} if {self.expression(depth - 1)} else {self.expression(depth - 1)})"
            case _:
                return f"[{inner}, {self.expression(depth - 1)}]"

    def body(self, depth: int) -> str:
        return "".join(self.statement(depth) for _ in range(self.rng.randint(1, 2)))

    def statement(self, depth: int) -> str:
        if depth <= 0:
            return "{{ " + self.expression(1) + " }}\n"
        expression, body = self.expression(2), self.body(depth - 1)
        return self.rng.choice(
            [
                "{{ " + expression + " }} ",
                "{%- for x in " + expression + " %}" + body + "{{ loop.last }}{% else %}e{% endfor %}",
                "{% if " + expression + " %}" + body + "{% else %}" + self.body(depth - 1) + "{% endif -%} \n",
                "  {% set x = " + expression + " %}\n" + body,
                "{% set ns.a = " + expression + " %}" + body,
                "{% set x %}" + body + "{% endset %}{{ x }}",
                "{% macro f(x, y="
                + self.expression(1)
                + ") %}"
                + body
                + "{{ y }}{% endmacro %}{{ f("
                + expression
                + ") }}",
            ]
        )


@pytest.mark.parametrize("seed", range(4))
def test_templates_that_a_grammar_writes(templates: Templates, seed: int) -> None:
    grammar = Grammar(seed)
    templates.check("{% set ns = namespace(a=1) %}{% set x = 'X' %}" + grammar.body(2) for _ in range(300))
