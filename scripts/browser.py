"""A real browser: Chromium without a window, driven over the DevTools protocol through two pipes."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-extensions --remote-debugging-pipe"
)
PATIENCE = 20.0  # seconds for any single answer


class Browser:
    """One page of a browser. It reads commands on its file descriptor 3 and answers on 4, each JSON and a zero."""

    def __init__(self, program: str, profile: Path) -> None:
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        # The shell puts the pipes' ends where the browser expects them, wherever they are here.
        start = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self.process = subprocess.Popen(
            ["bash", "-c", start, "bash", program, *OPTIONS.split(), f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # to end it with all its children
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.rest, self.number = b"", 0
        self.session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        try:
            self.attach()
        except BaseException:
            self.close()
            raise

    def attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """The answer to a command; events that come before it are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **self.session}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        answer = self.wait(lambda message: message.get("id") == self.number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def wait(self, wanted: Any) -> Any:
        deadline = time.monotonic() + PATIENCE
        while True:
            while b"\0" in self.rest:
                line, _, self.rest = self.rest.partition(b"\0")
                message = json.loads(line)
                self.events += [message] if "method" in message else []
                if wanted(message):
                    return message
            ready, _, _ = select.select([self.into], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self.into, 1 << 16) if ready else b""
            assert chunk, "the browser ended" if ready else f"no answer from the browser in {PATIENCE:g} s"
            self.rest += chunk

    def open(self, address: str, width: int = 1280, dark: bool = False) -> None:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        for url in ("about:blank", address):  # from elsewhere: another fragment alone would not load it anew
            self.events.clear()
            self.call("Page.navigate", url=url)
            if not any(event["method"] == "Page.loadEventFired" for event in self.events):
                self.wait(lambda message: message.get("method") == "Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited if it is a promise."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def complaints(self) -> list[dict[str, Any]]:
        """Exceptions, and whatever else the console shows as an error."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        errors = [event for event in self.events if event["params"].get("type") == "error"]  # console.error
        return errors + [event for event in self.events if event["method"] in kinds]

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        os.close(self.out)
        os.close(self.into)


def installed() -> str | None:
    """The program of a Chromium on this machine, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)
