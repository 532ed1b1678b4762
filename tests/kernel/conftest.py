"""What the kernel dumps is made once a session; where it cannot be, every test here says why."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.dumps import CannotCompileError, Core, Zoo, compile_c, compile_zoo, dumping
from kernel.programs import compile_forker
from kernel.waiting import Waiting, full_of, waiting


@pytest.fixture(scope="session")
def cores() -> None:
    """Skip where a crash leaves no core behind."""
    with dumping() as reason:
        pass
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def zoo_program(cores: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the zoo, and beside it the shared objects that it loads."""
    try:
        return compile_zoo(tmp_path_factory.mktemp("zoo-program"))
    except CannotCompileError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def dumps_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder for the cores, a gigabyte in the end, which stays only for a failure to be looked at."""
    folder = tmp_path_factory.mktemp("dumps")
    yield folder
    if request.session.testsfailed == 0:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def wild(zoo_program: Path, dumps_folder: Path) -> Zoo:
    """Dump every kind of mapping that this kernel lets us make."""
    return Zoo(zoo_program, dumps_folder / "wild", "wild")


@pytest.fixture(scope="session")
def tame(zoo_program: Path, dumps_folder: Path) -> Zoo:
    """Dump only mappings whose kind a core shows."""
    return Zoo(zoo_program, dumps_folder / "tame", "tame")


@pytest.fixture(scope="session")
def waiting_program(cores: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the program whose twins wait."""
    if os.uname().machine != "x86_64":
        pytest.skip("pids and times are masked where x86-64 has them")
    try:
        return compile_c("waiting.c", tmp_path_factory.mktemp("waiting") / "program", "-O1", "-static")
    except CannotCompileError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def small(waiting_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    """Start a process of one megabyte, of every kind of page."""
    with waiting(waiting_program, tmp_path_factory.mktemp("small")) as it:
        yield it


@pytest.fixture(scope="session")
def small_full(small: Waiting) -> Core:
    """Dump the small one without a limit."""
    return full_of(small)


@pytest.fixture(scope="session")
def forker(cores: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile what forks running programs."""
    if os.uname().machine != "x86_64":
        pytest.skip("system calls are injected on x86-64 only")
    try:
        return compile_forker(tmp_path_factory.mktemp("forker"))
    except CannotCompileError as error:
        pytest.skip(str(error))
