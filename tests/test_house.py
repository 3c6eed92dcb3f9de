"""The rooms: arrows one way, no circle, no private name used across files."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# A room may import its own and what stands below it.
BELOW = {
    "chapter_05_example_01": {"companion", "audio_utils", "synths"},
    "chapter_05_example_02": {"companion", "audio_utils", "synths"},
    "companion": {"audio_utils", "pictures", "synths"},
    "audio_utils": {"pictures", "synths"},
    "pictures": {"synths"},
    "synths": set(),
    "sounds": set(),
    "midi": set(),
    "banks": {"companion", "audio_utils", "pictures", "synths"},
    "training": {"sounds", "midi", "audio_utils", "pictures", "synths"},
    "benchmarks": {"chapter_05_example_01", "chapter_05_example_02", "companion", "audio_utils",
                   "pictures", "synths", "banks"},
}
INSIDE_SYNTHS = {
    "files": set(),
    "engines": {"files"},
    "weights": {"files"},
    "nsynth": {"files", "engines", "weights"},
    "gansynth": {"files", "engines", "weights"},
}


def sources() -> dict[str, Path]:
    """Module name -> file, of all that is not a test."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] in BELOW and not any(part.startswith(".") for part in parts):
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


SOURCES = sources()


def imported(name: str) -> set[str]:
    """Return the modules of ours that the module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in SOURCES
                      else node.module for alias in node.names}
    return {module for module in found if module in SOURCES and module != name}


GRAPH = {name: imported(name) for name in SOURCES}


def test_rooms_import_only_what_stands_below():
    wrong = [f"{name} -> {other}" for name, others in GRAPH.items() for other in others
             if (room := name.split(".")[0]) != (below := other.split(".")[0])
             and below not in BELOW[room]]
    assert not wrong and len(GRAPH) > 40
    wrong = [f"{name} -> {other}" for name, others in GRAPH.items() for other in others
             if name.startswith("synths.") and other.count(".")
             and (room := name.split(".")[1]) != (below := other.split(".")[1])
             and below not in INSIDE_SYNTHS[room]]
    assert not wrong


def test_no_two_modules_import_each_other():
    def reachable(start: str) -> set[str]:
        seen, todo = set(), list(GRAPH[start])
        while todo:
            name = todo.pop()
            # a package that gathers its modules' names is no room of its own
            if name not in seen and SOURCES[name].name != "__init__.py":
                seen.add(name)
                todo.extend(GRAPH[name])
        return seen
    assert not [name for name in GRAPH if name in reachable(name)]


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_no_private_name_is_used_across_files(name):
    tree = ast.parse(SOURCES[name].read_text("utf-8"))
    ours = set()
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in BELOW:
            ours |= {alias.asname or alias.name for alias in node.names}
            wrong += [alias.name for alias in node.names if alias.name.startswith("_")]
    for node in ast.walk(tree):
        if (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
                and node.value.id in ours and node.attr.startswith("_")
                and not node.attr.startswith("__")):
            wrong.append(f"{node.value.id}.{node.attr}")
    assert not wrong
