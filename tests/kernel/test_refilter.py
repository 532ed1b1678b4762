"""Filters in turn over what the kernel dumps: a second one loses nothing that both keep."""

from pathlib import Path

import pytest
from kernel.catalogue import PROGRAMS, VISITED
from kernel.dumps import Zoo
from kernel.programs import CannotStartError, open_folder, visit
from support.refilter import losses
from support.thinned import one_in

TWELVE = (0x0, 0x1, 0x2, 0x4, 0x8, 0x10, 0x3, 0x11, 0x14, 0x31, 0x33, 0x7F)


@one_in(3)
@pytest.mark.parametrize("which", ["wild", "tame"])
def test_two_filters_in_turn_over_every_kind_of_mapping(
    which: str, step: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    zoo: Zoo = request.getfixturevalue(which)
    assert not losses(zoo.full.path, TWELVE, tmp_path)
    # What a filter of the kernel's left is filtered once more.
    for coredump_filter in (0x1, 0x11, 0x33)[::-step]:
        if coredump_filter in zoo.twins:
            assert not losses(zoo.twins[coredump_filter].path, TWELVE, tmp_path), f"{coredump_filter:#x}"


@pytest.mark.slow
@pytest.mark.parametrize("name", VISITED)
def test_two_filters_in_turn_over_real_programs(name: str, forker: Path, tmp_path: Path) -> None:
    try:
        with open_folder() as folder, PROGRAMS[name](folder) as program:
            for process, pid in program.pids.items():
                with visit(process, pid, forker, folder / f"visit-{process}") as visited:
                    assert not losses(visited.full, TWELVE, tmp_path), process
    except CannotStartError as error:
        pytest.skip(str(error))
