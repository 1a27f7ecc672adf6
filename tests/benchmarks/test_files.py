"""
The overhead of files: a request with a 20 MB PDF, and a table of images on an S3.

The second needs moto and s3fs, which ``make parts`` installs: ``.venv-parts/bin/python -m pytest
tests/benchmarks/test_files.py -m bench -s``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.benchmarks import file_rows

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]
RATE = 50.0  # rows a second that the service allows
FEW, MANY = 100, 1000


def run(way: str, *arguments: Any) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.file_rows", way, *map(str, arguments)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_large_file_costs_little_more_than_to_encode_and_send_it():
    with file_rows.running() as url:
        found = run("file", url, "task", "hand")
        for name in ("task", "hand"):
            found |= {f"{name}_bytes": run("file", url, name)[f"{name}_bytes"]}
    cpu, size = found["task_cpu"] / found["hand_cpu"], found["task_bytes"] / file_rows.PDF_BYTES
    print(
        f"\nA request with a 20 MB PDF: {found['task_cpu'] * 1e3:.0f} ms of CPU, {cpu:.2f} times base64 and send by "
        f"hand ({found['hand_cpu'] * 1e3:.0f} ms); memory {size:.2f} times the file, by hand "
        f"{found['hand_bytes'] / file_rows.PDF_BYTES:.2f} times"
    )
    assert size <= 1.5
    assert cpu <= 2


def test_a_table_of_images_on_an_s3_is_as_fast_as_the_service_allows_in_flat_memory():
    pytest.importorskip("moto")
    from tests.parts import s3

    with s3.moto() as store:
        fs = s3.filesystem(store, "moto")
        fs.mkdir("images")
        for number in range(MANY):
            fs.pipe_file(f"images/in/{number}.png", b"\x89PNG\r\n\x1a\n" + os.urandom(file_rows.IMAGE_BYTES))
        found = {}
        for count in (FEW, MANY):
            with file_rows.running(RATE) as url:
                found[count] = run("images", url, store, count)
                found[count] |= {"sending": httpx.get(url).json()["seconds"]}
    many, few = found[MANY], found[FEW]
    rate = (MANY - RATE) / many["sending"]  # as many as the limit allows in a second are served at once
    print(
        f"\n1,000 images of 200 KB on S3 (moto): {rate:.1f} rows/s while sending, of {RATE:g} that the service allows; "
        f"{many['seconds']:.1f} s in all, of which {many['seconds'] - many['sending']:.1f} s read the files "
        f"once before; peak {many['peak']:.0f} MiB, of 100 images {few['peak']:.0f} MiB"
    )
    assert rate >= 0.9 * RATE
    assert many["peak"] <= 1.25 * few["peak"]
