"""A headless Chromium that opens a page and says what it thinks of it, over the pipe of its DevTools protocol."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# As root, without a screen, and without asking its maker's servers for anything.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium (Debian's package) is not installed")


# A machine with much else to do makes Chromium end at its start at times.
TRIES = 3
# Where its socket is: its path has at most 107 bytes (sun_path), and pytest's directories can be too long for that.
SHORT = "/tmp"


class BrowserEndedError(AssertionError):
    """The browser is gone; what it said last is the message."""


class Browser:
    """One page; `errors` are what its console showed as such, `requests` the addresses that it asked for."""

    def __init__(self, profile: Path) -> None:
        self._profile, self._said = profile, profile.with_name(f"{profile.name}.stderr")
        self._held, self._number, self._session = b"", 0, ""
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._start()

    def open(self, path: Path, *, scheme: str = "light", width: int = 1280) -> None:
        """Open a file in a page of its own, so many CSS pixels wide, and wait until it is loaded."""
        for turn in range(TRIES):
            try:
                return self._open(path, scheme, width)
            except (BrowserEndedError, BrokenPipeError):
                if turn == TRIES - 1:
                    raise
                self.close()
                self._start()
        raise AssertionError

    def _open(self, path: Path, scheme: str, width: int) -> None:
        self.errors, self.requests, self._session = [], [], ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self._call(f"{domain}.enable")
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 700
        )
        self._call("Page.navigate", url=path.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript in the page; what it throws fails the test."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self) -> None:
        self._commands.close()
        self._answers.close()
        self._process.kill()
        self._process.wait()
        self._sockets.cleanup()

    def _start(self) -> None:
        assert CHROMIUM is not None
        self._held, self._session = b"", ""
        self._sockets = tempfile.TemporaryDirectory(prefix="chromium-", dir=SHORT, ignore_cleanup_errors=True)
        commands_in, commands_out = os.pipe()
        answers_in, answers_out = os.pipe()
        # The protocol's pipes are descriptors 3 and 4, and only a shell can put them there.
        ours = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (commands_in, answers_out)]
        script, profile = f'exec "$@" 3<&{ours[0]} 4>&{ours[1]}', f"--user-data-dir={self._profile}"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                ["bash", "-c", script, "bash", CHROMIUM, *FLAGS, profile],
                pass_fds=ours,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, "TMPDIR": self._sockets.name},
            )
        for fd in (commands_in, answers_out, *ours):
            os.close(fd)
        self._commands, self._answers = os.fdopen(commands_out, "wb", buffering=0), os.fdopen(answers_in, "rb")

    def _call(self, method: str, **params: object) -> dict[str, Any]:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            got = self._answers.read1(1 << 16)
            if not got:
                raise BrowserEndedError(self._said.read_text(errors="replace")[-2000:])
            self._held += got
        raw, _, self._held = self._held.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown" or (
            method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert", "warning")
        ):
            self.errors.append(json.dumps(params))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start one with an empty profile, and end it."""
    started = Browser(profile)
    try:
        yield started
    finally:
        started.close()
