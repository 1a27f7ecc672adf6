"""Debian's Chromium without a window, driven by its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from . import programs

STARTS_WITHIN = 60.0  # seconds
LOADS_WITHIN = 60.0  # seconds
# Key → the text that it writes, and its number in a keyboard event.
KEYS = {
    "Enter": ("\r", 13),
    "Escape": ("", 27),
    "Tab": ("", 9),
    " ": (" ", 32),
    "End": ("", 35),
    "Home": ("", 36),
    "ArrowLeft": ("", 37),
    "ArrowUp": ("", 38),
    "ArrowRight": ("", 39),
    "ArrowDown": ("", 40),
}
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root, as in a container, has no other way; the pages are this machine's own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    # Nothing but the pages is loaded.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)


class BrowserError(Exception):
    """Chromium did not start, or a page did not become what was waited for."""


class Page:
    """
    One tab.

    :param scale: pixels of the picture for each pixel of the page.
    """

    def __init__(self, connection: ClientConnection, *, width: int, height: int, scale: float) -> None:
        self._connection = connection
        self._next_id = 0
        self.scale = scale
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )
        self.prefer("light")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command of the protocol and return its result."""
        self._next_id += 1
        self._connection.send(json.dumps({"id": self._next_id, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(timeout=LOADS_WITHIN))
            if message.get("id") != self._next_id:  # an event
                continue
            if "error" in message:
                raise BrowserError(f"{method}: {message['error']['message']}")
            return dict(message["result"])

    def open(self, url: str) -> None:
        """Go to a page; it may still be loading afterwards."""
        self.command("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Run JavaScript in the page and return its value."""
        result = self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Wait until a JavaScript expression is true; an error in it counts as false."""
        end = time.monotonic() + LOADS_WITHIN
        while not self.run(f"(() => {{ try {{ return !!({script}) }} catch {{ return false }} }})()"):
            if time.monotonic() > end:
                text = self.run("document.body.innerText.slice(0, 2000)")
                raise BrowserError(f"waited {LOADS_WITHIN:.0f} s for {script}; the page reads:\n{text}")
            time.sleep(0.1)

    def click(self, element: str) -> None:
        """Click the middle of an element, which is a JavaScript expression."""
        box = self.box(element)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def write(self, text: str) -> None:
        """Type a text into the element that has the focus."""
        self.command("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press and release one of ``KEYS``."""
        text, number = KEYS[key]
        pressed = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": number}
        self.command("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **pressed)
        self.command("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def prefer(self, mode: str) -> None:
        """Let the system be light or dark."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": mode}])

    def before_scripts(self, script: str) -> None:
        """Run JavaScript in every page that is opened from now on, before its own scripts."""
        self.command("Page.enable")
        self.command("Page.addScriptToEvaluateOnNewDocument", source=script)

    def box(self, element: str) -> dict[str, float]:
        """Wait for an element, and return where it is: x, y, width and height."""
        self.wait_for(element)
        box = self.run(
            f"(() => {{ const element = {element}; element.scrollIntoView({{block: 'nearest'}});"
            " const box = element.getBoundingClientRect();"
            " return {x: box.x, y: box.y, width: box.width, height: box.height}; })()"
        )
        return dict(box)

    def picture(self, clip: dict[str, float] | None = None) -> bytes:
        """Return a PNG of the page, or of a part of it."""
        parameters = {} if clip is None else {"clip": {**clip, "scale": 1}}
        result = self.command("Page.captureScreenshot", format="png", **parameters)
        return base64.b64decode(result["data"])


@contextlib.contextmanager
def chromium() -> Iterator[str]:
    """Start Chromium; yield the address of its protocol."""
    with tempfile.TemporaryDirectory(prefix="pictures-", ignore_cleanup_errors=True) as profile:
        command = [programs.chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        env = os.environ | {"HOME": profile}
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield _address(Path(profile, "DevToolsActivePort"), process)
        finally:
            process.terminate()
            process.wait(timeout=10)


def _address(file: Path, process: subprocess.Popen[bytes]) -> str:
    """Return the address that Chromium writes into its profile once it listens."""
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end and process.poll() is None:
        lines = file.read_text().split() if file.exists() else []
        if len(lines) == 2:
            return f"127.0.0.1:{lines[0]}"
        time.sleep(0.1)
    raise BrowserError(f"Chromium does not listen; its exit code is {process.poll()}")


@contextlib.contextmanager
def page(address: str, *, width: int, height: int, scale: float = 1.0) -> Iterator[Page]:
    """Yield a tab of a Chromium that runs, and close it at the end."""
    with httpx.Client(base_url=f"http://{address}", trust_env=False) as client:
        tab = client.put("/json/new?about:blank").raise_for_status().json()
        # A large picture is one message.
        with connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None) as connection:
            yield Page(connection, width=width, height=height, scale=scale)
        client.get(f"/json/close/{tab['id']}")
