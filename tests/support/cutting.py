"""Cuts files that are mapped: the page is gone when it is touched, and the kernel sends SIGBUS."""

from __future__ import annotations

import os

import pytest

from corefilt.verify.files import MappedCore, Window


def cut_under_windows(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Cut the file that errors call ``name`` to nothing once a window over its bytes is open."""
    open_window = MappedCore.window

    def window(self: MappedCore, offset: int, length: int) -> Window:
        made = open_window(self, offset, length)
        if self.name == name:
            os.truncate(f"/proc/self/fd/{self.fd}", 0)
        return made

    monkeypatch.setattr(MappedCore, "window", window)
