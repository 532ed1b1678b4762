"""Filters finished Linux core dumps by the bits of coredump_filter.

``corefilt.filter`` makes one core of another; ``corefilt.open`` gives a core to look at. Names are resolved
when they are first used, so that ``import corefilt`` itself loads nothing.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .core import Core, Mapping
    from .core import open_core as open
    from .errors import CorefiltError
    from .filterbits import CoredumpFilter
    from .filtering import filter_core as filter
    from .kept import Plan
    from .report import Report

_WHERE = {
    "Core": ("core", "Core"),
    "CoredumpFilter": ("filterbits", "CoredumpFilter"),
    "CorefiltError": ("errors", "CorefiltError"),
    "Mapping": ("core", "Mapping"),
    "Plan": ("kept", "Plan"),
    "Report": ("report", "Report"),
    "filter": ("filtering", "filter_core"),
    "open": ("core", "open_core"),
}

__all__ = ["Core", "CoredumpFilter", "CorefiltError", "Mapping", "Plan", "Report", "filter", "open"]


if not TYPE_CHECKING:
    # A type checker would take any name for one that this function knows.
    def __getattr__(name: str) -> object:
        """Resolve a public name."""
        from importlib import import_module

        try:
            room, attribute = _WHERE[name]
        except KeyError:
            raise AttributeError(f"module 'corefilt' has no attribute {name!r}") from None
        value = getattr(import_module(f"{__name__}.{room}"), attribute)
        globals()[name] = value
        return value
