"""For tests that try the same at every place: at some of the places in a plain run, at each with -m slow."""

from __future__ import annotations

import pytest


def one_in(count: int) -> pytest.MarkDecorator:
    """Give a test its argument `step`: `count` in a plain run, and 1 in one of slow tests."""
    return pytest.mark.parametrize(
        "step", [pytest.param(count, id=f"one in {count}"), pytest.param(1, id="each", marks=pytest.mark.slow)]
    )
