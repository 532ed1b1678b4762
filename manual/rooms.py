"""The map of the rooms in CONTRIBUTING.md: every module of the package by the first sentence of its docstring."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
from pathlib import Path

BEGIN, END = "<!-- rooms: written by `python manual` -->\n", "<!-- end of rooms -->\n"
# The rooms at the top of the package, in the order in which a core goes through them. Packages have their own tables.
GROUPS = {
    "Where bytes come from": "sources compression unpacking",
    "What is in a core": "elf notes identity registers mappings memory payload images gaps missing fdpic loadmaps",
    "What lies beside a core": "evidence procmaps sidecars savedmaps apportreport journal process procfolder "
    "procfilter sysroot copies annotation selectors",
    "Which kinds are left": "filterbits kinds case rules findings neighbours witnesses fdpicrules live",
    "What is kept": "core kept plan noteplace wish selection essentials worth fit fitted limits variants",
    "How a core is written": "options filtering writer run beforehand settled inplace",
    "How bytes move": "engine _fast crew cutting cache sinks packing temporary replacement discard",
    "Names, words, numbers and children": "__init__ __main__ corepattern corefile naming report errors sizes share "
    "versions offspring",
}


def placed(text: str) -> str:
    """CONTRIBUTING.md with the map as it is now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + text_of_rooms() + "\n" + END + rest.partition(END)[2]


def text_of_rooms() -> str:
    """The map: a table for each group, and for each package. Raises ValueError for a module without a group."""
    jobs = modules()
    top = {name for name in jobs if "/" not in name}
    found = []
    for title, names in GROUPS.items():
        rows = [(name, jobs[name]) for name in names.split() if name in top]
        found.append(_table(f"### {title}", rows))
        top -= set(names.split())
    if top:
        raise ValueError(f"in which room of manual/rooms.py are {', '.join(sorted(top))}?")
    for package in sorted({name.partition("/")[0] for name in jobs if "/" in name}):
        rows = [(name, job) for name, job in jobs.items() if name.startswith(f"{package}/")]
        found.append(_table(f"### `{package}/`", rows))
    return "\n".join(found)


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| `{name}` | {job} |" for name, job in rows]
    return "\n".join([title, "", "| module | its job |", "|---|---|", *lines]) + "\n"


def modules() -> dict[str, str]:
    """Every module of the installed package, as a path without its ending, and its job."""
    spec = importlib.util.find_spec("corefilt")
    if spec is None or spec.submodule_search_locations is None:
        raise ValueError("corefilt is not installed")
    root = Path(spec.submodule_search_locations[0])
    found = {"__init__": _job(root / "__init__.py")}
    for module in pkgutil.walk_packages([str(root)], "corefilt."):
        name = module.name.removeprefix("corefilt.").replace(".", "/")
        if module.ispkg:
            found[f"{name}/__init__"] = _job(root / name / "__init__.py")
        else:
            found[name] = _job(root / f"{name}.py")
    return found


def _job(path: Path) -> str:
    """The first line of a module's docstring; of a compiled module's own."""
    if path.exists():
        text = ast.get_docstring(ast.parse(path.read_text()))
    else:
        text = importlib.import_module(f"corefilt.{path.stem}").__doc__
    return (text or "").partition("\n")[0].replace("``", "`").replace("|", "\\|")
