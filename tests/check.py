"""Lint, types, spelling, terms, doctests and links in one command: `python -m tests.check`.

Needs `pip install --no-deps -r tests/requirements.txt` beside requirements.txt.
"""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What a reader may import; tests, training and benchmarks are linted, and not typed.
TYPED = ("chapter_05_example_01.py", "chapter_05_example_02.py", "audio_utils.py", "companion",
         "synths", "workshop", "sounds", "midi")


def tracked(*patterns: str) -> list[Path]:
    """Return the files of the repository that match, and nothing that a run has made."""
    # tracked ones, and new ones that are not ignored; whoever owns the checkout
    done = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached",
                           "--others", "--exclude-standard", "--", *patterns],
                          cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def modules() -> Iterator[str]:
    """Yield the names of the modules that have doctests."""
    for path in tracked(*(name if name.endswith(".py") else f"{name}/**/*.py" for name in TYPED),
                        *(f"{name}/*.py" for name in TYPED)):
        if ">>> " in path.read_text("utf-8"):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def doctests() -> bool:
    """Run every example in a docstring; tell whether all print what they say."""
    failed = attempted = 0
    for name in sorted(set(modules())):
        found = doctest.testmod(importlib.import_module(name))
        failed, attempted = failed + found.failed, attempted + found.attempted
    print(f"{attempted} examples in docstrings, {failed} wrong")
    return not failed and attempted > 0


def anchors(text: str) -> set[str]:
    """Return what a Markdown page's headings can be linked as, the way forges build it."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL),
                          re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
            for heading in headings}


def links() -> bool:
    """Check that every link to a file or heading of the repository leads somewhere.

    Links to other places are only checked to be whole addresses: a network is not asked for.
    """
    broken = []
    count = 0
    for page in tracked("*.md", "*.ipynb"):
        text = page.read_text("utf-8")
        for target in re.findall(r"\]\(<?([^)>\s]+)>?\)", text):
            count += 1
            address = urllib.parse.urlsplit(target)
            if address.scheme:
                if address.scheme not in ("http", "https") or not address.netloc:
                    broken.append(f"{page.relative_to(ROOT)}: {target}")
                continue
            path = page.parent / urllib.parse.unquote(address.path) if address.path else page
            if not path.exists() or (address.fragment and path.suffix == ".md"
                                     and address.fragment not in anchors(path.read_text("utf-8"))):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    print(f"{count} links, {len(broken)} broken", *broken, sep="\n  ")
    return not broken


def main() -> int:
    """Run all checks; return 0 if all are clean."""
    here = [name for name in TYPED if (ROOT / name).exists()]
    right = True
    prose = map(str, tracked("*.md", "*.py", "*.js", "*.j2", "*.c", "*.ipynb"))
    for command in (["ruff", "check", "."], ["mypy", *here], ["tests.style"],
                    ["codespell_lib", *prose]):
        print("+", *command[:9], flush=True)
        right &= subprocess.run([sys.executable, "-m", *command], cwd=ROOT).returncode == 0
    sys.path.insert(0, str(ROOT))
    right &= doctests()
    right &= links()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
