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

VALUES = """none; true; 0; -3; ''; 'abc'; 'A b'; ' x\\n y '; '42'; ' +7 '; '4.7'; 'ß ǆ İ'; 'ΑΣ ΟΔΟΣ'; []; [3, 1, 2];
    ['b', 'A', 'a']; [1, 'a']; [[1, 2], [0]]; (1, 2); {}; {'b': 1, 'a': 2}; [{'a': 3, 'r': 'x'}, {'a': 1, 'r': 'y'}];
    [none, 1, '']; nothing; range(3); {'b': 1}.items(); {'b': 1}.keys(); ['b', 'a']|map('upper'); namespace(a=1);
    'a,b,,c'; '٣'; '1_000'; messages; messages[0].content; [true, 1]""".replace("\n    ", " ").split("; ")

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
    "replace": ["('a', 'b')", "('bc', '')", "(old='a', new='b')", "('a')"],
    "join": ["", "(', ')", "(d='-')"],
    "list": [""],
    "first": [""],
    "last": [""],
    "items": ["|list"],
    "dictsort": [""],
    "map": [
        "('upper')|list",
        "(attribute='a')|list",
        "('default', 'q')|list",
        "()|list",
    ],
    "select": ["|list", "('string')|list", "('equalto', 1)|list", "('ne', 1)|list", ""],
    "reject": ["|list", "('none')|list"],
    "selectattr": ["('a')|list", "('a', 'equalto', 3)|list", "('role', 'in', ['user'])|list"],
    "rejectattr": ["('a')|list", "('a', 'defined')|list"],
    "int": ["", "(5)"],
    "tojson": ["", "(indent=2)", "(true)", "(sort_keys=true)", "(separators=(',', ':'))", "(indent='\t')"],
}
TESTS = """defined; undefined; none; string; mapping; iterable; sequence; number; integer; float; boolean; true; false;
    in [1, 'a', none]; in 'abc'; in {'abc': 1}; equalto 1; eq(2); ne none""".replace("\n    ", " ").split("; ")
METHODS = """strip(); strip('a'); lstrip(); rstrip('y'); upper(); lower(); title(); capitalize(); split(',');
    split(',', 1); split(sep=' ', maxsplit=1); startswith('a'); endswith('c'); find('b'); rfind('b');
    replace('a', 'b'); replace('bc', ''); items()|list; keys()|list; values()|list; get('b'); get('z', 5);
    get(key='b')""".replace("\n    ", " ").split("; ")
LOOKUPS = ["a", "x.y", "role", "items is defined", "foo is defined", "upper is defined", "__class__", "_x"]
INDICES = """0; -1; 9; 'a'; 1:; :-1; -2:9; 2:1; ::-1; none:2; true; 1.0; none; 'upper'; ::2; 1::-1; -1:0:-2; 9:-9:-1;
    ::0; ::-9223372036854775807""".replace("\n    ", " ").split("; ")
OPERATORS = ["+", "-", "%", "~", "==", "<", ">=", "in", "not in", "and", "or"]
OPERANDS = """none; true; 0; 7; -3; ''; 'abc'; 'b'; []; [1, 2]; ['b']; (1, 2); {'b': 1}; nothing; range(3);
    9007199254740993""".replace("\n    ", " ").split("; ")
# Lists and dicts have no text of their own here.
SHOWN = ["", "|tojson"]
STATEMENTS = [
    "{% for x in [1, 2, 3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}"
    "{{ loop.previtem }}{{ loop.nextitem }}{% endfor %}",
    "{% for x in [1, 2, 3]|select %}{{ x }}{{ loop.nextitem }}{{ loop.last }}{% endfor %}",
    "{% for x in [1, 2, 3] if x > 1 %}{{ loop.index }}{% endfor %}{% for x in nothing %}{{ x }}{% endfor %}",
    "{% for x in [1, 2, 3, 4] if x != 3 %}{{ loop.previtem }}{{ x }}{{ loop.nextitem }}{{ loop.last }}{% endfor %}",
    "{% for a, b in [(1, 2), 'xy'] %}{{ a }}{{ b }}{% endfor %}",
    "{% set ns = namespace(l=none) %}{% for x in [1, 1, 2] if x != ns.l %}{{ x }}{% set ns.l = x %}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for x in [1, 2, 3] if x > ns.n %}{{ x }}{{ loop.last }}{% set ns.n = 3 %}"
    "{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = i + 5 %}{{ x }}{% endfor %}{{ x }}",
    "{% macro f(a, b=a) %}[{{ a }}|{{ b }}]{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=1) }}{{ f() }}{{ f(a=1, b=4) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}",
    "{% set b = 9 %}{% macro f(a=b, b=1) %}{{ a }}{{ b }}{% endmacro %}{{ f() }}{{ f(b=3) }}",
    "{% macro f() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ f() }}",
    "{% macro f(x) %}{{ varargs }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f() %}{{ loop.index }}{% endmacro %}{% for i in [1, 2] %}{{ f() }}{% endfor %}",
    "{% if true %}{% macro f(a, b=a) %}{{ messages|length }}{{ b }}{% endmacro %}{% endif %}"
    "{{ f(b=3, a=2) }}{{ f(2) }}",
    "{% set x %}ab{% endset %}{{ x|upper }}",
    "{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}{{ q }}",
    "a\n  {%- if true %}\nb{% endif -%}\n c\n  {% if true %}  \n x {% endif %}\n{%+ if true %}y{% endif +%}\nz",
    "{% if messages if x else z %}{% endif %}",
    "{{ 'a' 'b' }}{{ 1 if false }}{{ 'a\\t\\'\\q' }}",
    "{{ x is is defined }}",
    "{{ {'b': 1, 'a': {'c': [none, true]}}|tojson(sort_keys=true, separators=(',', ':')) }}",
    "{{ [1, 2, 3][::-1]|tojson }}{{ (1, 2, 3)[::-1]|tojson }}{{ [1, 2, 3][-9:9]|join }}{{ 'añb'[1:] }}",
    "{{ 'añb'[-2:-1] }}{{ (1, 2)[:1]|tojson }}",
    "{{ 1 + 2 - 3 }}{{ 7 % 4 + 1 }}{{ 7 % 4 ~ 'a' ~ 8 % 3 }}{{ not 1 == 2 and not not 3 }}{{ 1 in [1] or 2 > 3 }}",
    "{{ 'a' ~ 'b' in 'xab' and 'c' not in 'ab' }}{{ not 'a' in 'b' }}{{ - 3 + + 4 }}{{ -7 % 3 + -1 }}{{ 1 + 1 == 2 }}",
    "{{ 0 or 1 and 2 }}{{ 1 and 0 or 3 }}{{ not 0 or 1 }}{{ 1 is defined and 2 is not none }}{{ 3 == 3 is true }}",
]
# What chat templates use is never refused.
SUPPORTED = [
    "{{ messages|map(attribute='role')|join(', ') }}{{ messages|selectattr('role', 'equalto', 'user')|list|length }}",
    "{{ messages.0.role ~ messages.1.content.0.text }}",
    "{{ messages[::-1]|map(attribute='role')|join }}{{ messages|rejectattr('role', 'in', ['user'])|list|tojson }}",
    "{{ messages|tojson(indent=2) }}{{ {'b': 1, 'a': none}|tojson(sort_keys=true) }}",
    "{{ 'ü'|tojson(ensure_ascii=true) }}{{ [1, 'a']|tojson(separators=(',', ':')) }}{{ ['x']|tojson|safe }}",
    "{{ ['a', none, 1, true, 'it\\'s']|tojson }}{{ none|default('d', true) }}{{ -7 - 2 }}{{ 2 ~ -7 % 3 }}",
    "{{ 'hello WORLD'|capitalize ~ 'x y'|title }}{{ 'x y'.title() }}{{ ' ab'|capitalize ~ 'élan ÉTÉ'.capitalize() }}",
    "{{ ' 7\n'|int + 1 }}{{ 3|string ~ ['b', 'a']|last }}{{ ['b']|first }}",
    "{% for key, value in {'b': 1, 'A': 2}|items %}{{ key }}{{ value }}{% endfor %}"
    "{{ {'b': 1, 'A': 2}|dictsort|tojson }}",
    "{% for key, value in {'a': 1}.items() %}{{ key }}{{ value }}{% endfor %}{{ {'a': 1}.get('b', 'c') }}"
    "{{ {'a': 1}.keys()|join }}{{ {'a': 1}.values()|list|tojson }}{{ 'a' in {'a': 1}.keys() }}",
    # A thought is taken out of an answer.
    "{% set c = '<think>\nhm\n</think>\n\nok' %}{{ c.split('</think>')[-1].lstrip('\n') }}"
    "{{ c.split('</think>')[0].rstrip('\n').split('<think>')[-1].strip('\n') }}{{ c.replace('ok', 'x') }}"
    "{{ c.startswith('<think>') and not c.endswith('>') }}{{ c[c.find('hm'):] }}{{ c[:c.rfind('</think>')] }}",
    # The last question is looked for from the end.
    "{% set ns = namespace(more=true, last=messages|length - 1) %}{% for message in messages[::-1] %}"
    "{% set index = (messages|length - 1) - loop.index0 %}{% if ns.more and message.role == 'user' and "
    "message.content is string %}{% set ns.more = false %}{% set ns.last = index %}{% endif %}{% endfor %}"
    "{{ ns.last }}",
    # Contents are texts or parts, in a macro that counts.
    "{% set count = namespace(value=0) %}{% macro render(content, numbered=false) %}{% if content is string %}"
    "{{ content }}{% else %}{% for item in content %}{% if item.type == 'image' or 'image' in item or "
    "'image_url' in item %}{% set count.value = count.value + 1 %}{% if numbered %}Image {{ count.value }}: {% endif %}"
    "<image>{% elif 'text' in item %}{{ item.text }}{% else %}{{ raise_exception('unknown') }}{% endif %}{% endfor %}"
    "{% endif %}{% endmacro %}{% for message in messages %}{{ render(message.content, numbered=true)|trim }}\n"
    "{%- endfor %}",
    # Turns are grouped, left out and ended.
    "{% for message in messages if message.role != 'system' %}{% if loop.first or messages[loop.index0 - 1].role != "
    "message.role %}<{{ message['role']|upper }}>{% endif %}{% if loop.last %}!{% else %}{% continue %}{% endif %}"
    "{% endfor %}{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role if not loop.first }}{{ loop.nextitem is defined }}{% endfor %}",
    "{%- if strftime_now is defined %}{% set date = strftime_now('%Y') %}{% else %}{% set date = '1' %}{% endif %}"
    "{{ date|length }}{{ (messages[0].content|trim + '\n') if messages[0].content is not none }}",
    "{% if (messages[0]['role'] == 'user') != (0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% set roles = ['user'] + ['assistant'] %}{{ roles is sequence and roles is not string "
    "and roles is not mapping }}",
    "{% generation %}{{ messages[0].content }}{% endgeneration %}{{ '  ' + ' ' }}|{{ undefined_name is undefined }}",
    "{% if tools is defined and tools is not none %}{{ tools|map('fromjson')|list }}{% endif %}"
    "{{ messages[0].tool_calls is defined }}{{ (messages[0].tool_calls or [])|length }}",
    # What stands in a branch or a macro that does not run is not asked for.
    "{% if tools %}{{ tools|groupby('x') }}{{ tools.pop() }}{% include 'x' %}{% call(x) f(1) %}{{ x }}{% endcall %}"
    "{{ 1 / 2 if tools is strange }}{% endif %}{{ tools|fromjson if tools else 'ok' }}"
    "{% macro f() %}{% filter upper %}{{ caller() }}{% endfilter %}{% with a = 1 %}{% endwith %}{% endmacro %}",
]
# What Jinja has beside that is refused by its name, where it is certain to run before any message is seen.
REFUSED = {
    "the filter": "abs attr batch center count d e escape filesizeformat float forceescape format groupby indent max "
    "min pprint random reverse round slice sort striptags sum truncate unique urlencode urlize wordcount wordwrap "
    "xmlattr",
    "the test": "callable divisibleby escaped even filter gt ge le lt lower odd sameas upper test",
    "the method": "append casefold center clear copy count encode expandtabs extend format format_map index insert "
    "isalnum isalpha isdigit islower isnumeric isspace isupper join ljust partition pop popitem removeprefix "
    "removesuffix rsplit setdefault splitlines swapcase translate update zfill",
}
REFUSED_STATEMENTS = {
    "{% with a = 1 %}{% endwith %}": "{% with %}",
    "{% filter upper %}{% endfilter %}": "{% filter %}",
    "{% call f() %}{% endcall %}": "{% call %}",
    "{% include 'x' %}": "{% include %}",
    "{% import 'x' as y %}": "{% import %}",
    "{% from 'x' import y %}": "{% from %}",
    "{% extends 'x' %}": "{% extends %}",
    "{% block x %}{% endblock %}": "{% block %}",
    "{% autoescape true %}{% endautoescape %}": "{% autoescape %}",
    "{% for x in messages recursive %}{% endfor %}": "a recursive loop",
    "{% set a, b = 1, 2 %}": "setting several names at once",
    "{% set a | upper %}{% endset %}": "a filter of a set block",
    "{% for (a, b) in messages %}{% endfor %}": "a target in brackets",
    "{% raw %}{{ x }}{% endraw %}": "the tag {% raw %}",
    "{% for x in messages %}{% macro f() %}{% endmacro %}{% endfor %}": "a macro in a loop or another block",
    "{% macro f() %}{% macro g() %}{% endmacro %}{% endmacro %}": "a macro in a loop or another block",
    "{{ 1 / 2 }}": "the operator /",
    "{{ 3 // 2 }}": "the operator //",
    "{{ ' ' * 2 }}": "the operator *",
    "{{ 1 % 2 * 3 + 1 }}": "the operator *",
    "{{ 2 ** 3 }}": "the operator **",
    "{{ 1.5 }}": "the number 1.5",
    "{{ 1e3 }}": "the number 1e3",
    "{{ 0x1F }}": "the number 0x1F",
    "{{ 1_000 }}": "the number 1_000",
    "{{ 99999999999999999999 }}": "the number 99999999999999999999",
    "{{ '\\101' }}": "the escape \\1",
    "{{ '\\u00e9' }}": "the escape \\u",
    "{{ '\\x41' }}": "the escape \\x",
    "{{ ü }}": "other than ASCII letters",
    "{{ f(*messages) }}": "in front of an argument",
    "{{ messages[0, 1] }}": "a tuple in brackets",
    "{{ messages[0].role.upper()() }}": "calling anything but",
    "{% for x in messages %}{% else %}{% endfor %}": "the tag {% else %}",
    "{% for x in messages %}{% set y %}{% break %}{% endset %}{% endfor %}": "{% break %} outside of a loop",
    "{{ 1 < 2 < 3 }}": "a comparison of more than two values",
    "{% for x in messages %}{{ loop.length }}{% endfor %}": "loop.length",
    "{% for x in messages %}{{ loop.revindex }}{% endfor %}": "loop.revindex",
    "{% for x in messages %}{{ loop.revindex0 }}{% endfor %}": "loop.revindex0",
    "{% for x in messages %}{{ loop is defined }}{% endfor %}": "loop as a value of its own",
    "{% for x in messages %}{{ loop.cycle('a', 'b') }}{% endfor %}": "loop.cycle",
    "{% for x in messages %}{{ loop.changed(x) }}{% endfor %}": "loop.changed",
    "{% for x in messages %}{{ loop.depth }}{% endfor %}": "loop.depth",
    "{% for x in messages %}{{ loop }}{% endfor %}": "loop as a value of its own",
    "{% set loop = 1 %}": "setting loop",
}


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


def refusal(templates: Templates, source: str) -> str:
    """What loading a template says, which no message is needed for."""
    (templates.folder / "chat_template.jinja").write_text(source, newline="")
    with pytest.raises(tte.ModelError) as info:
        tte.Tokenizer(templates.folder)
    return str(info.value)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_chat_templates_do_not_use_is_refused_by_name(templates: Templates, kind: str) -> None:
    form = {"the filter": "x|{}", "the test": "x is {}(1)", "the method": "x.{}()"}[kind]
    for name in REFUSED[kind].split():
        for where in (
            "{{{{ {} }}}}",
            "{{% if {} %}}{{% endif %}}",
            "{{% for x in {} %}}{{% endfor %}}",
            "{{{{ [{}] }}}}",
        ):
            said = refusal(templates, "\n" + where.format(form.format(name)))
            assert f"line 2: {kind} {name} is not supported by tte" in said


@pytest.mark.parametrize("source", REFUSED_STATEMENTS)
def test_statements_that_chat_templates_do_not_use_are_refused_by_name(templates: Templates, source: str) -> None:
    said = refusal(templates, source)
    assert "line 1: " in said
    assert REFUSED_STATEMENTS[source] in said
    assert "is not supported by tte" in said


def test_what_is_refused_when_it_runs(templates: Templates) -> None:
    for source, what in {
        "{% if messages %}{{ 'a'|urlize }}{% endif %}": "the filter urlize",
        "{{ 1 / 2 if messages }}": "the operator /",
        "{% macro f() %}{{ 'a'.zfill(3) }}{% endmacro %}{{ f() }}": "the method zfill",
        "{% if messages %}{% include 'x' %}{% endif %}": "{% include %}",
        "{{ messages|map('urlize')|list }}": "map of urlize",
        "{{ cycler('a') }}": "cycler",
        "{{ dict(a=1) }}": "dict",
        "{{ messages }}": "the text of a list",
        "{{ 'a' ~ messages[0] }}": "the text of a dict",
        "{{ '4.7'|int }}": 'int of "4.7"',
        "{{ '4'|int(5) }}": "int with 1 arguments",
        "{{ 'a' < 'b' }}": "str < str",
        "{% set g = messages|select %}": "keeping a generator",
        "{{ ['a']|map('upper') }}": "the text of a generator",
        "{{ messages.append(1) if messages }}": "the method append",
        "{{ range(3) }}": "the text of a view",
        "{{ 'é'|title }}": 'the title of "é"',
        '{{ "it\'s".title() }}': 'the title of "it\'s"',
        "{{ 'abc'.replace('', '-') }}": "replace with an empty text as argument 1",
        "{{ 'abc'.split('') }}": "split with an empty text as argument 1",
        "{{ 'abc'.replace('a', 'b', 1) }}": "replace with 3 arguments",
        "{{ 'abc'|replace('a', 'b', 1) }}": "replace with 3 arguments",
        "{{ ['a']|join('-', 'x') }}": "join with 2 arguments",
        "{{ ['a']|join(attribute='x') }}": "join with an argument attribute",
        "{{ 'abc'[::-1] }}": "a slice of a str with a step",
        "{{ [['a']]|map(attribute='0')|list }}": "map by a path or a number",
        "{{ messages|selectattr('role.name')|list }}": "selectattr by a path or a number",
        "{{ [['a']]|map('map', 'upper')|list }}": "map of map",
        "{{ 1|tojson(separators=(';', ':')) }}": "tojson with separators other than",
        "{{ 1|tojson(indent='-') }}": "tojson with a str as argument 2",
        "{{ 'a b'.split(none) }}": "split with a NoneType as argument 1",
    }.items():
        with pytest.raises(tte.ModelError) as info:
            templates.ours(source)
        assert f"line 1: {what}" in str(info.value)
        assert "is not supported by tte" in str(info.value)


@pytest.mark.parametrize("name", FILTERS)
def test_filters(templates: Templates, name: str) -> None:
    templates.check(
        "{{ (" + v + ")|" + name + form + shown + " }}" for v in VALUES for form in FILTERS[name] for shown in SHOWN
    )


@pytest.mark.parametrize("value", VALUES)
def test_values(templates: Templates, value: str) -> None:
    """Tests, methods, lookups and loops of a value."""
    templates.check(
        itertools.chain(
            ("{{ (" + value + ") is " + test + " }}" for test in TESTS),
            ("{{ (" + value + ")." + method.strip() + shown + " }}" for method in METHODS for shown in SHOWN),
            ("{{ (" + value + ")." + lookup + " }}" for lookup in LOOKUPS),
            ("{{ (" + value + ")[" + index + "]" + shown + " }}" for index in INDICES for shown in SHOWN),
            (
                "{{ (" + form.replace("@", value) + ")" + s + " }}"
                for form in ("@", "[@]", "not (@)", "-(@)")
                for s in SHOWN
            ),
            ["{% for x in (" + value + ") %}<{{ x }}>{% endfor %}"],
        )
    )


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators(templates: Templates, operator: str) -> None:
    templates.check(
        "{{ ((" + a + ") " + operator + " (" + b + "))" + s + " }}" for a in OPERANDS for b in OPERANDS for s in SHOWN
    )


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
                return f"({inner} {pick(OPERATORS)} {self.expression(depth - 1)})"
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
            return "{{ (" + self.expression(1) + ")" + self.rng.choice(SHOWN) + " }}\n"
        expression, body = self.expression(2), self.body(depth - 1)
        return self.rng.choice(
            [
                "{{ " + expression + " }} ",
                "{{ (" + expression + ")|tojson }} ",
                "{%- for x in " + expression + " %}" + body + "{{ loop.last }}{% endfor %}",
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
