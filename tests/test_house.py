"""The rooms: arrows one way, no circle, no private name across files, functions of a screen."""

import ast
import re
from collections.abc import Iterator
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
    "sounds": {"synths"},
    "midi": {"synths"},
    "banks": {"companion", "audio_utils", "pictures", "synths"},
    "training": {"sounds", "midi", "audio_utils", "pictures", "synths"},
    "benchmarks": {"chapter_05_example_01", "chapter_05_example_02", "companion", "audio_utils",
                   "pictures", "synths", "banks", "training"},
}
# Lines of a function without its docstring.
MOST_LINES = 60
# Rooms whose public functions have whole docstrings.
DOCUMENTED = ("chapter_05_example_01", "chapter_05_example_02", "audio_utils", "companion",
              "pictures", "synths", "banks", "sounds", "midi")
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
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in SOURCES.items()}


def imported(name: str) -> set[str]:
    """Return the modules of ours that the module imports, anywhere in it."""
    found = set()
    for node in ast.walk(TREES[name]):
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


def foreign(tree: ast.Module) -> set[str]:
    """Return the names that imports of others' packages bind."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names
                      if alias.name.split(".")[0] not in BELOW}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] not in BELOW:
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def defined(tree: ast.Module) -> set[str]:
    """Return what a module itself defines or sets, also on objects: functions, fields, names."""
    found = {node.name for node in ast.walk(tree)
             if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and (
                isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_no_private_name_is_used_across_files(name):
    tree = TREES[name]
    own, theirs = defined(tree), foreign(tree)
    wrong = [alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
             and (node.module or "").split(".")[0] in BELOW for alias in node.names
             if alias.name.startswith("_")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_(?!_)", node.attr):
            root: ast.AST = node
            while isinstance(root, ast.Attribute):
                root = root.value
            holder = root.id if isinstance(root, ast.Name) else ""
            if holder not in ("self", "cls") and holder not in theirs and node.attr not in own:
                wrong.append(ast.unparse(node))
    assert not wrong


def functions(name: str) -> Iterator[ast.FunctionDef]:
    """Yield the functions and methods of a module."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef):
            yield node


def lines_of_code(function: ast.FunctionDef) -> int:
    """Count a function's lines without its docstring."""
    documented = ast.get_docstring(function, clean=False) is not None
    first = function.body[0]
    inside = first.end_lineno - first.lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - inside


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_function_fits_a_screen(name):
    assert not [f"{function.name}: {lines_of_code(function)} lines" for function in functions(name)
                if lines_of_code(function) > MOST_LINES]


@pytest.mark.parametrize("name", sorted(name for name in SOURCES
                                        if name.split(".")[0] in DOCUMENTED))
def test_public_functions_say_what_they_raise(name):
    """Of those that raise one of our own errors themselves."""
    wrong = []
    private = {id(part) for node in ast.walk(TREES[name]) if isinstance(node, ast.ClassDef)
               and node.name.startswith("_") for part in node.body}
    for function in functions(name):
        if function.name.startswith("_") or id(function) in private:
            continue
        inner = {id(node) for part in ast.walk(function) if part is not function
                 and isinstance(part, (ast.FunctionDef, ast.Lambda)) for node in ast.walk(part)}
        raises = any(isinstance(node, ast.Raise) and node.exc is not None
                     and re.match(r"(InputError|CheckpointError|ArchiveError)\(",
                                  ast.unparse(node.exc))
                     for node in ast.walk(function) if id(node) not in inner)
        if raises and "Raises\n" not in (ast.get_docstring(function) or ""):
            wrong.append(function.name)
    assert not wrong
