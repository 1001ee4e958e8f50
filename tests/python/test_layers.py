"""Files of python/tte import only what stands before them: rooms in their order, and no circle of files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "python" / "tte"
PACKAGES = ["", "nano", "mmeb", "integrations"]
"""Folders of tte, each with what stands before it; "" is the files of tte itself."""
ROOMS = ["data", "score", "run", "report", "mini", "cli"]
"""Folders of tte.mmeb, likewise."""
PROGRAMS = {"tte.demo", "tte.__main__", "tte.mmeb.__main__"}
"""What is started, and may use everything."""


def modules() -> dict[str, Path]:
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = ("tte", *path.relative_to(SOURCE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def typing_only(tree: ast.AST) -> set[ast.AST]:
    """Imports that only type checkers read."""
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test).endswith("TYPE_CHECKING")]
    return {inner for block in blocks for inner in ast.walk(block)}


def imports(module: str) -> set[str]:
    """Modules of tte that a module imports, be it within a function."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    unread = typing_only(tree)
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in unread:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                found.add(whole if whole in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return (found & MODULES.keys()) - {module, "tte"}


GRAPH = {module: imports(module) for module in MODULES}


def place(module: str, order: list[str], above: str) -> int | None:
    """Where a module's folder stands in an order; None if it is in none of its folders."""
    rest = module.removeprefix(above).lstrip(".")
    name = (
        rest.split(".")[0] if (SOURCE / above.replace("tte", "", 1).lstrip(".") / rest.split(".")[0]).is_dir() else ""
    )
    name = name or (rest if rest in order else "")
    return order.index(name) if name in order else None


@pytest.mark.parametrize(("order", "above"), [(PACKAGES, "tte"), (ROOMS, "tte.mmeb")])
def test_folders_use_only_those_before_them(order: list[str], above: str) -> None:
    wrong = [
        f"{module} imports {used}"
        for module, uses in GRAPH.items()
        if module.startswith(f"{above}.")
        and module not in PROGRAMS
        and (own := place(module, order, above)) is not None
        for used in uses
        if used.startswith(f"{above}.") and (other := place(used, order, above)) is not None and other > own
    ]
    assert wrong == []


def test_the_files_are_listed_in_their_order() -> None:
    """In python/README.md: each file of tte itself once, below all that it uses."""
    readme = (SOURCE.parent / "README.md").read_text(encoding="utf-8")
    rows = [re.findall(r"`(\w+)\.py`", line.split("|")[1]) for line in readme.splitlines() if line.startswith("| `")]
    listed = ["tte." + name for row in rows for name in row]
    assert sorted(listed) == sorted(m for m, path in MODULES.items() if path.parent == SOURCE and m != "tte")
    place = {name: number for number, name in enumerate(listed)}
    wrong = [f"{m} uses {used}" for m in listed for used in GRAPH[m] if place.get(used, -1) > place[m]]
    assert wrong == []


def test_no_circle_of_files() -> None:
    """Take away, again and again, what imports nothing that is left: a circle stays."""
    left = {module: set(uses) for module, uses in GRAPH.items()}
    while free := [module for module, uses in left.items() if not uses & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}
