"""The ELF files that were loaded into a process, each looked up below a directory and held against the core."""

from __future__ import annotations

from dataclasses import dataclass

from corefilt.bundle.manifest import FOUND, MISMATCHED, MISSING, OBJECT, UNVERIFIED, BundledFile
from corefilt.bundle.names import is_plain
from corefilt.corefile.elf import ELFMAG
from corefilt.corefile.link_map import read_link_maps
from corefilt.corefile.owner import Owner
from corefilt.crash.modules import VDSO, ModuleIndex, find_modules
from corefilt.io.named_files import NotUsable, why_no_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.corefile import CoreFile
    from corefilt.evidence.sysroot import MappedFile, Sysroot

# What is read of a core for it in all, in bytes: modules and their names take some MiB.
MOST_READ = 256 << 20


@dataclass(frozen=True, slots=True)
class LoadedObjects:
    """What a core tells: the paths of the mapped ELF files with their build-ids, and of which file each name is.

    A build-id is None where the core does not hold it. ``names`` are pairs of the link map's name and the path;
    ``executable`` is the program's path. ``proven`` are the paths whose image the core holds: they are ELF files.
    ``asked`` are all names by which a debugger may look for a file.
    """

    build_ids: dict[bytes, bytes | None]
    proven: frozenset[bytes]
    names: tuple[tuple[bytes, bytes], ...]
    executable: bytes | None
    asked: frozenset[bytes]


def loaded_objects(core: CoreFile) -> LoadedObjects:
    """The objects of a core that can be sought, in the order of their addresses."""
    memory = core.memory(MOST_READ)
    modules = [module for module in find_modules(core, memory) if module.path not in (None, VDSO)]
    build_ids: dict[bytes, bytes | None] = {}
    for module in modules:
        path = module.path or b""
        # A part of memory that can be executed is called like a file, and is none.
        if module.table is not None or why_no_file(path) is None:
            build_ids[path] = build_ids.get(path) or module.build_id
    index = ModuleIndex(modules)
    maps = read_link_maps(core, memory)
    linked_objects = maps.objects if maps is not None else ()
    found = ((linked.name, index.at(linked.dynamic)) for linked in linked_objects)
    names = [(name, module.path) for name, module in found if name and module is not None and module.path is not None]
    return LoadedObjects(
        build_ids,
        frozenset(module.path for module in modules if module.table is not None and module.path is not None),
        tuple(dict.fromkeys(names)),
        Owner(core.notes, core.ehdr).executable,
        frozenset(core.notes.files.names[0] if core.notes.files is not None else ())
        | {linked.name for linked in linked_objects},
    )


def look_up(objects: LoadedObjects, path: bytes, sysroot: Sysroot) -> tuple[BundledFile | None, MappedFile | None]:
    """What is below a directory in the place of an object, and the open file where it is usable.

    Nothing for a file that is not an ELF file after all.
    """
    wanted = objects.build_ids[path]
    if not is_plain(path):
        return _lacking(path, wanted, "is not a path that can be bundled"), None
    try:
        file = sysroot.find(path)
    except NotUsable as error:
        return _lacking(path, wanted, str(error)), None
    try:
        found = _held_against(objects, path, wanted, file)
    except NotUsable as error:
        found = _lacking(path, wanted, str(error))
    except BaseException:
        file.close()
        raise
    if found is None or found.is_lacking:
        file.close()
        return found, None
    return found, file


def _held_against(objects: LoadedObjects, path: bytes, wanted: bytes | None, file: MappedFile) -> BundledFile | None:
    if file.read(0, len(ELFMAG)) != ELFMAG:
        if path not in objects.proven:
            return None
        return BundledFile(path, OBJECT, MISMATCHED, wanted, reason="not an ELF file")
    own = file.build_id()
    if wanted is None:
        return BundledFile(path, OBJECT, UNVERIFIED, own, size=file.size, reason="the core does not hold its build-id")
    if own == wanted:
        return BundledFile(path, OBJECT, FOUND, wanted, size=file.size)
    reason = f"has build-id {own.hex()}, the core's has {wanted.hex()}" if own is not None else "has no build-id"
    return BundledFile(path, OBJECT, MISMATCHED, wanted, own, reason=reason)


def _lacking(path: bytes, build_id: bytes | None, reason: str) -> BundledFile:
    return BundledFile(path, OBJECT, MISSING, build_id, reason=reason)
