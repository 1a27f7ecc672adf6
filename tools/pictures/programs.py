"""The programs that the screenshots need."""

from __future__ import annotations

import shutil


class ProgramMissingError(Exception):
    """A program is not installed; the message names the packages of Debian that have it."""


def chromium() -> str:
    """Return the path of Chromium, or of a browser like it."""
    return _find("chromium", "chromium-browser", "google-chrome")


def pngquant() -> str:
    """Return the path of pngquant, which makes a PNG a third of its size."""
    return _find("pngquant")


def _find(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    raise ProgramMissingError(f"{names[0]} is not installed. On Debian: apt-get install chromium pngquant")
