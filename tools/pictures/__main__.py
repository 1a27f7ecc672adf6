"""Make the pictures of the documentation: two drawings, and two screenshots of Airflow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from . import diagrams
from .programs import ProgramMissingError

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
DRAWINGS = {"request-life": diagrams.request_life, "enrichment-flow": diagrams.enrichment_flow}


def pictures(*, drawings_only: bool) -> Iterator[tuple[str, bytes]]:
    """Yield file name and content of each picture."""
    for name, draw in DRAWINGS.items():
        yield f"{name}.svg", draw().encode()
    if drawings_only:
        return
    from .screenshots import screenshots

    for name, png in screenshots():
        yield f"{name}.png", png


def main() -> int:
    """Write all pictures; return the exit code."""
    parser = argparse.ArgumentParser(prog="pictures", description=__doc__)
    parser.add_argument("--drawings", action="store_true", help="leave out the screenshots, which need Chromium")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write them; by default docs/images")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        for name, content in pictures(drawings_only=options.drawings):
            (options.folder / name).write_bytes(content)
            print(f"{options.folder / name}: {len(content) / 1000:.0f} KB", flush=True)
    except ProgramMissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
