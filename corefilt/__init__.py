"""Filters finished Linux core dumps by the bits of coredump_filter.

``corefilt.filter`` makes one core of another; ``corefilt.open`` gives a core to look at. Names are resolved
when they are first used, so that ``import corefilt`` itself loads nothing; their types stand in ``__init__.pyi``.
"""

__version__ = "0.1.0"

_WHERE = {
    "Core": ("api", "Core"),
    "CoredumpFilter": ("coredump_filter", "CoredumpFilter"),
    "CorefiltError": ("errors", "CorefiltError"),
    "Mapping": ("plan.plan", "Mapping"),
    "Plan": ("api", "Plan"),
    "Report": ("filtering.report", "Report"),
    "batch": ("batching.run", "batch"),
    "filter": ("api", "filter_core"),
    "open": ("api", "open_core"),
}

__all__ = ["Core", "CoredumpFilter", "CorefiltError", "Mapping", "Plan", "Report", "batch", "filter", "open"]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> object:
    try:
        room, attribute = _WHERE[name]
    except KeyError:
        # Also what every import of a module from the package asks first.
        raise AttributeError(f"module 'corefilt' has no attribute {name!r}") from None
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{room}"), attribute)
    globals()[name] = value
    return value
