"""Data flows one way: what a folder may include, what the public headers may show, and that what is there is called."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.MULTILINE)
# A function's name where a header, or the start of a line in a source file, declares it; and what is not code.
DECLARATION = re.compile(
    r"(?:  )?(?=\S)(?!return\b|else\b|throw\b)[\w:<>,&*\[\]\s\"]+[\s&*>:](?!alignas\b)([a-z_]\w*)\("
)
TEXT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
CALLED_BY_TESTS_ONLY = {
    "choose_products": "a processor without instructions for oneDNN shall test what oneDNN computes",
    "choose_pairs": "a processor shall test both ways to multiply bfloat16 values",
}
TORCH = ("ATen/", "torch/", "c10/", "caffe2/")
# Names that families share with what is none: all else that names a family belongs into src/models.
NAMED_AS_FAMILIES = {
    "src/text/tokenizer": "values of tokenizer_config.json (tokenizer_class), and transformers' rules for model types",
    "src/prompt/recipe.cpp": "values of recipes: a package, and the prompts of a benchmark",
}


def _folders() -> list[str]:
    """Folders of src/ in the order of the data flow, as src/README.md lists them."""
    return re.findall(r"^\| `(\w+)/` \|", (ROOT / "src/README.md").read_text(), re.MULTILINE)


def _sources(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*")) if p.suffix in {".h", ".cpp", ".cu", ".cuh"}]


def _includes(path: Path) -> list[str]:
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def test_every_folder_is_listed() -> None:
    assert sorted(_folders()) == sorted(p.name for p in (ROOT / "src").iterdir() if p.is_dir())


@pytest.mark.parametrize("folder", _folders())
def test_a_folder_uses_only_those_before_it(folder: str) -> None:
    order = _folders()
    later = set(order[order.index(folder) + 1 :])
    wrong = [
        f"{path.relative_to(ROOT)} includes {name}"
        for path in _sources(ROOT / "src" / folder)
        for name in _includes(path)
        if name.split("/")[0] in later
    ]
    assert not wrong


def test_public_headers_show_no_torch() -> None:
    headers = _sources(ROOT / "include")
    assert len(headers) > 5
    shown = [f"{h.name} includes {i}" for h in headers for i in _includes(h) if i.startswith(TORCH)]
    assert all(line.startswith("torch.h ") for line in shown), shown
    # Nor by way of the one that does, which is for who asks for it.
    assert [h.name for h in headers if "tte/torch.h" in _includes(h)] == []


def test_public_headers_use_each_other_and_the_standard_library_only() -> None:
    allowed = re.compile(r"tte/\w+\.h|[a-z_]+(\.h)?")
    for header in _sources(ROOT / "include"):
        if header.name != "torch.h":
            assert [i for i in _includes(header) if not allowed.fullmatch(i)] == [], header.name


def test_lines_end_before_column_120() -> None:
    """Comments too, which the formatter leaves as they are."""
    folders = ("include", "src", "python/bindings", "tests", "benchmarks", "examples")
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in folders
        for path in _sources(ROOT / folder)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 120
    ]
    assert not long


def test_benchmarks_import_what_there_is() -> None:
    """Also what they import of the tests within functions, which nothing runs before somebody measures."""
    tests = ROOT / "tests" / "python"
    wrong = []
    for script in sorted((ROOT / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            source = tests / f"{node.module}.py" if isinstance(node, ast.ImportFrom) else None
            if source is None or not source.is_file():
                continue
            there = importlib.import_module(source.stem)
            wrong += [
                f"{script.name}: {node.module}.{name.name}" for name in node.names if not hasattr(there, name.name)
            ]
    assert not wrong


def test_only_models_know_their_families() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} includes {name}"
        for path in _sources(ROOT / "src")
        for name in _includes(path)
        if re.match(r"models/\w+/", name) and (ROOT / "src/models") not in path.parents
    ]
    assert not wrong


def _code(path: Path) -> str:
    """What a file says outside of comments and docstrings, but for programs and repositories with a family's name."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        said = [node for node in ast.walk(ast.parse(text)) if not isinstance(node, ast.Expr)]
        inner = [child for node in said for child in ast.iter_child_nodes(node)]
        text = "\n".join(
            str(node.value) if isinstance(node, ast.Constant) else node.id
            for node in inner
            if isinstance(node, (ast.Constant, ast.Name))
        )
    else:
        text = TEXT.sub(lambda found: found[0] if found[0].startswith('"') else "", text)
    return re.sub(r"llama\.cpp|\bQwen/[\w.-]+", "", text)


def test_only_models_name_families() -> None:
    types = re.findall(r'^ +\{"(\w+)", ', (ROOT / "src/models/registry.cpp").read_text(), re.MULTILINE)
    names = set(re.findall("[a-z]{4,}", " ".join(types))) - {"text", "next"}
    assert {"qwen", "llama", "llava"} <= names
    # And how they call their tensors.
    for family in (ROOT / "src/models").glob("*/family.cpp"):
        names |= set(re.findall(r'^ +\{"([a-z]+_[a-z_]+)', family.read_text(), re.MULTILINE))
    assert "multi_modal_projector" in names
    files = [p for p in _sources(ROOT / "src") if (ROOT / "src/models") not in p.parents]
    files += [*_sources(ROOT / "python/bindings"), *(ROOT / "python/tte").glob("*.py")]
    found = {str(p.relative_to(ROOT)) for p in files if re.search("|".join(names), _code(p), re.IGNORECASE)}
    assert {p for p in found if not p.startswith(tuple(NAMED_AS_FAMILIES))} == set()
    assert [known for known in NAMED_AS_FAMILIES if not any(p.startswith(known) for p in found)] == []


def test_families_do_not_use_each_other() -> None:
    models = ROOT / "src/models"
    registry = _includes(models / "registry.cpp")
    families = {name.split("/")[1] for name in registry if re.match(r"models/\w+/", name)}
    wrong = [
        f"{path.relative_to(ROOT)} includes {name}"
        for folder in [p for p in models.iterdir() if p.is_dir()]
        for path in _sources(folder)
        for name in _includes(path)
        if re.match(r"models/\w+/", name) and name.split("/")[1] in families - {folder.name}
    ]
    assert not wrong, wrong


def test_the_data_flow_names_files_that_exist() -> None:
    flow = (ROOT / "src/README.md").read_text().split("## From `think_then_embed()` to the vector")[1]
    hops = re.findall(r"^ *((?:src|python)/\S+)", flow, re.MULTILINE)
    assert 15 <= len(hops) <= 25
    assert not [hop for hop in hops if not (ROOT / hop).is_file()]


def test_every_function_that_a_header_declares_is_called() -> None:
    declared: dict[str, str] = {}
    used: set[str] = set()
    for path in [p for folder in ("include", "src", "python/bindings") for p in _sources(ROOT / folder)]:
        is_header = path.suffix in {".h", ".cuh"}
        for line in TEXT.sub('""', path.read_text(encoding="utf-8")).splitlines():
            names = re.findall(r"\w+", line)
            if (is_header or not line.startswith(" ")) and (found := DECLARATION.match(line)):
                names.remove(found[1])
                # Who calls what include/ declares is outside. Between double underscores are words of the compiler.
                if is_header and (ROOT / "src") in path.parents and not found[1].startswith("__"):
                    declared[found[1]] = str(path.relative_to(ROOT))
            used.update(names)
    assert len(declared) > 400
    assert {name: file for name, file in declared.items() if name not in used | set(CALLED_BY_TESTS_ONLY)} == {}
    assert [name for name in CALLED_BY_TESTS_ONLY if name not in declared or name in used] == []
