"""The map of the rooms in CONTRIBUTING.md: every directory and every top module, by its docstring."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
from pathlib import Path

BEGIN, END = "<!-- rooms: written by `python manual` -->\n", "<!-- end of rooms -->\n"


def placed(text: str) -> str:
    """CONTRIBUTING.md with the map as it is now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + text_of_rooms() + "\n" + END + rest.partition(END)[2]


def text_of_rooms() -> str:
    """The map: a table of the modules at the top of the package, and one of the rooms and the rooms in them."""
    jobs = modules()
    top = [(name, job) for name, job in jobs.items() if not name.endswith("/")]
    return _table("module", top) + "\n" + _table("room", [row for row in jobs.items() if row not in top])


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| `{name}` | {job} |" for name, job in rows]
    return "\n".join([f"| {title} | its job |", "|---|---|", *lines]) + "\n"


def modules() -> dict[str, str]:
    """The modules at the top of the installed package, and every room as a path with a slash at its end; their jobs."""
    spec = importlib.util.find_spec("corefilt")
    if spec is None or spec.submodule_search_locations is None:
        raise ValueError("corefilt is not installed")
    root = Path(spec.submodule_search_locations[0])
    found = {"__init__": _job(root / "__init__.py")}
    for module in pkgutil.walk_packages([str(root)], "corefilt."):
        name = module.name.removeprefix("corefilt.").replace(".", "/")
        if module.ispkg:
            found[f"{name}/"] = _job(root / name / "__init__.py")
        elif "/" not in name:
            found[name] = _job(root / f"{name}.py")
    return found


def _job(path: Path) -> str:
    """The first line of a module's docstring; of a compiled module's own."""
    if path.exists():
        text = ast.get_docstring(ast.parse(path.read_text()))
    else:
        text = importlib.import_module(f"corefilt.{path.stem}").__doc__
    return (text or "").partition("\n")[0].replace("``", "`").replace("|", "\\|")
