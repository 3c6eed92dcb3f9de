"""Check that prose uses the field's terms: `python -m tests.style`."""

from __future__ import annotations

import ast
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.check import ROOT, tracked

# A private word and the standard term; docs/glossary.md defines the terms.
TERMS = {
    r"not in print|in print": "differs from the book; in the book",
    r"starts? anew|anew|afresh": "again, from scratch",
    r"in all(?= |\.|,)(?! (cases|of|the|three|four|its|other))": "in total",
    r"strays?|strayed": "drift, deviate",
    r"taught|teach(es|ing)?": "fine-tune, train",
    r"crew": "thread pool",
    r"likelihoods? \(less|less is better": "negative log-likelihood, lower is better",
    r"cross-fades?": "crossfade",
    r"undisturbed": "uninterrupted",
    r"by ear": "pitch detection",
    r"spoiled|poisoned": "unusable, corrupt",
    r"rainbow-gram": "rainbowgram",
    r"goes? on with|going on with": "resume, continue",
    r"of its own accord|whosoever": "a plain word",
    r"decoded again": "reconstructed",
    r"odds": "probabilities",
}
RULES = [(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), term)
         for pattern, term in TERMS.items()]


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page, or the comments and docstrings of a module."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    with open(path, "rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            for number, line in enumerate((ast.get_docstring(node) or "").splitlines()):
                yield getattr(node, "lineno", 1) + number, line


def found() -> list[str]:
    """Return each private word with its place and the term to use."""
    return [f"{path.relative_to(ROOT)}:{number}: {match[0]!r}: write {term}"
            for path in tracked("*.md", "*.py") if path.name != "style.py"
            for number, line in prose(path) for rule, term in RULES if (match := rule.search(line))]


if __name__ == "__main__":
    words = found()
    print(f"{len(words)} private words", *words, sep="\n")
    sys.exit(1 if words else 0)
