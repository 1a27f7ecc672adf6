"""The words of the package, the documentation and the names of tests: those of the field, in plain English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "airflow_provider_responses"
PAGES = [*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"))]

# Only phrases that are never the right ones: ordinary English stays free.
INSTEAD = {
    r"as typed": "matches output_type",
    r"anew": "again",
    r"dearest": "most expensive",
    r"kept (answer|response)s?": "cached response",
    r"for nothing": "free, at no cost",
    r"if it stays": "if this persists",
    r"allowed (is|are)": "must be",
    r"asked about (once|again)": "sent once, sent again",
    r"asking again": "sending the request again",
    r"ways? of running": "execution mode",
    r"unreadable(?!\")": "invalid_output",  # but for a value in quotes, of the pages' API
    r"cost_this_try": "cost_this_attempt",
    r"(this|one|each|next|first|last|second) try": "attempt (Airflow's) or send (HTTP)",
    r"what is (told|said|asked|known|answered) (about|of|to|by)": "a noun",
    r"the task's stamp": "idempotency key",
    r"answers? (that|which) (is|are|was|were) (kept|cached)": "cached response",
}
PHRASE = re.compile(rf"\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)
# A docstring describes; it does not hand over, and is no order to say something.
BEGINNING = re.compile(r"(Give|Gives|Say|Says|Tell|Tells|What|How)\b")


def documented(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the docstrings of a module with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the names that a module defines, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if path != Path(__file__))


def places(path: Path, found: list[tuple[int, str]]) -> str:
    return "\n".join(f"{path.relative_to(ROOT)}:{line}: {text}" for line, text in found)


@pytest.mark.parametrize("path", [*modules(PACKAGE), *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_phrase_that_the_glossary_replaces(path):
    lines = enumerate(path.read_text().splitlines(), 1)
    found = [(number, line.strip()) for number, line in lines if PHRASE.search(line)]
    assert not found, places(path, found)


@pytest.mark.parametrize("path", modules(PACKAGE), ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_and_names(path):
    tree = ast.parse(path.read_text())
    docstrings = [(line, text.splitlines()[0]) for line, text in documented(tree) if BEGINNING.match(text)]
    assert not docstrings, places(path, docstrings)
    answers = [(line, name) for line, name in names(tree) if re.search(r"answer|stamp(?!_)|dearest", name, re.I)]
    assert not [(line, name) for line, name in answers if "timestamp" not in name.lower()], places(path, answers)


def test_names_of_tests():
    for path in modules(ROOT / "tests"):
        defined = [(line, name) for line, name in names(ast.parse(path.read_text())) if name.startswith("test_")]
        found = [(line, name) for line, name in defined if PHRASE.search(name.replace("_", " "))]
        assert not found, places(path, found)


@pytest.mark.parametrize("phrase", INSTEAD)
def test_each_phrase_is_found(phrase):
    example = re.sub(r"\(([^|)]*)[^)]*\)", r"\1", phrase).replace("?", "")
    assert PHRASE.search(f"It is {example}.")
