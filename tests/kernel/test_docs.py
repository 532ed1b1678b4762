"""Pages of the documentation that change settings of the system, and put them back."""

import os
from pathlib import Path

import pytest
from support.pages import EVERYWHERE, PAGES, SYSTEM, prepare, run, to_run

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may change what these pages change"),
    pytest.mark.skipif(os.environ.get("COREFILT_TEST_SYSTEM") != "1", reason="COREFILT_TEST_SYSTEM=1 is not set"),
]


@pytest.mark.parametrize("page", [page for page in PAGES if to_run(page, [SYSTEM])], ids=lambda page: page.name)
def test_commands(page: Path, tmp_path: Path) -> None:
    prepare(page, tmp_path)
    run(page, tmp_path, [EVERYWHERE, SYSTEM])
