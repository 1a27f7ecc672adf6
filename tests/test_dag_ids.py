"""
No two files of tests run a DAG of the same name.

Before Airflow 3.3, ``dag.test()`` stores a DAG once: another one with its name, in the same process, is taken for it,
and its tasks are not found.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parent


def names_run_in(path: Path) -> set[str]:
    """Return the names of DAGs that a file passes to the fixture ``run_dag``."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = [
        call.args[1]
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "run_dag" and call.args[1:]
    ]
    return {str(it.value) for it in named if isinstance(it, ast.Constant)}


def test_each_dag_that_is_run_has_a_name_of_its_own():
    files = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name in names_run_in(path):
            files[name].append(str(path.relative_to(TESTS)))
    assert len(files) > 20
    assert {name: found for name, found in files.items() if len(found) > 1} == {}
