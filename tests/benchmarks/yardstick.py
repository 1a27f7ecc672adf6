"""
The CPU time of work that no change of this package makes faster or slower, on the machine as it is at the moment.

Limits in milliseconds depend on the machine and on its other processes; limits as multiples of this time do not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
# Modules without side effects, which read bytecode and make classes as other imports do.
STANDARD_LIBRARY = (
    *("argparse", "asyncio.base_events", "configparser", "dataclasses", "difflib", "doctest", "fractions", "ftplib"),
    *("email._header_value_parser", "http.cookiejar", "imaplib", "inspect", "ipaddress", "mailbox", "optparse", "pdb"),
    *("pickletools", "smtplib", "statistics", "subprocess", "tarfile", "unittest.mock", "xml.etree.ElementTree"),
    "zipfile",
)


def cpu(function: Callable[[], Any]) -> float:
    """Return the seconds of CPU that a call takes."""
    began = time.process_time()
    function()
    return time.process_time() - began


def standard_library() -> float:
    """Return the seconds of CPU that executing modules of the standard library takes, once they are on the disk."""
    specs = [find_spec(name) for name in STANDARD_LIBRARY if import_module(name)]

    def execute() -> None:
        for spec in specs:
            assert spec is not None
            assert spec.loader is not None
            spec.loader.exec_module(module_from_spec(spec))

    return cpu(execute)


def figures(code: str) -> dict[str, float]:
    """Return the dict that a new process assigns to ``figures``. It has ``cpu`` and ``standard_library``."""
    code = f"""
import json
from tests.benchmarks.yardstick import cpu, standard_library
{code}
print("FIGURES", json.dumps(figures))
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("FIGURES")]
    found: dict[str, float] = json.loads(line.removeprefix("FIGURES"))
    return found
