"""The layers: imports go one way, without circles, and private names stay in their file."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("chapter_05_example_01", "chapter_05_example_02")
# What each part may import, apart from itself.
BELOW = {
    **dict.fromkeys(SCRIPTS, {"companion", "audio_utils", "synths"}),
    "workshop": {*SCRIPTS, "companion", "audio_utils", "synths", "training"},
    "companion": {"audio_utils", "synths"},
    "audio_utils": {"synths"},
    "synths": set(),
    "sounds": {"synths"},
    "midi": {"synths"},
    "training": {"sounds", "midi", "companion", "audio_utils", "synths"},
    "benchmarks": {*SCRIPTS, "companion", "audio_utils", "synths", "workshop", "training"},
}
WITHIN_SYNTHS = {
    "files": set(), "sounds": {"files", "engines"}, "engines": {"files"}, "weights": {"files"},
    "nsynth": {"files", "sounds", "engines", "weights"},
    "gansynth": {"files", "engines", "weights"},
}


def sources() -> dict[str, Path]:
    """Return module name -> file of all code but the tests."""
    paths = [path for path in ROOT.rglob("*.py")
             if path.relative_to(ROOT).with_suffix("").parts[0] in BELOW]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
            for path in paths}


SOURCES = sources()
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in SOURCES.items()}


def imports(name: str, at_import: bool = False) -> set[str]:
    """Return the project's modules that a module imports; all, or those at import time."""
    found: set[str] = set()
    for node in (TREES[name].body if at_import else ast.walk(TREES[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in SOURCES
                      else node.module for alias in node.names}
    return {module for module in found if module in SOURCES and module != name}


def test_imports_go_down_only():
    wrong = [f"{name} -> {other}" for name in SOURCES for other in imports(name)
             if (part := name.split(".")[0]) != (below := other.split(".")[0])
             and below not in BELOW[part]]
    wrong += [f"{name} -> {other}" for name in SOURCES for other in imports(name)
              if name.startswith("synths.") and other.startswith("synths.")
              and (part := name.split(".")[1]) != (below := other.split(".")[1])
              and below not in WITHIN_SYNTHS[part]]
    assert not wrong and len(SOURCES) > 40


def test_imports_have_no_circle():
    graph = {name: imports(name, at_import=True) for name in SOURCES}
    left = dict(graph)
    while free := [name for name, others in left.items() if not others & set(left)]:
        for name in free:
            del left[name]
    assert not left


def test_private_names_stay_in_their_file():
    wrong = []
    for name, tree in TREES.items():
        local = {alias.asname or alias.name for node in ast.walk(tree)
                 if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in BELOW
                 for alias in node.names}
        wrong += [f"{name}: {each}" for each in local if each.startswith("_")]
        wrong += [f"{name}: {node.value.id}.{node.attr}" for node in ast.walk(tree)
                  if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
                  and node.value.id in local and node.attr.startswith("_")
                  and not node.attr.startswith("__")]
    assert not wrong


def test_every_package_is_listed():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= {*BELOW, "tests"}
