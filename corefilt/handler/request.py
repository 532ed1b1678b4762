"""What the parent tells the child to do once the settings are read: a few values, through a pipe."""

from __future__ import annotations

import marshal

from corefilt.handler.account import Account

# Written in one piece (PIPE_BUF); it takes some hundred bytes, and 21 for each signature of ``full``.
MOST = 4096
# What the child goes by; the rest of the settings is the parent's.
_SETTINGS = (
    "annotate_full", "budget", "compress", "free_space", "full", "journal_maps", "minimal", "most", "rlimit", "signs",
    "smaps_budget",
)  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.handler.config import Config


class Order:
    """``config`` as far as the child needs it, its account, and the parent's descriptors of the two output files."""

    __slots__ = ("account", "config", "files")

    def __init__(self, config: Config, account: Account, files: tuple[int, int]) -> None:
        self.config, self.account, self.files = config, account, files


def pack(order: Order) -> bytes:
    """The order as bytes."""
    settings = [getattr(order.config, name) for name in _SETTINGS]
    account = order.account
    return marshal.dumps((settings, int(order.config.filter), account.uid, account.gid, order.files))


def unpack(raw: bytes) -> Order:
    """The order that these bytes are; they come from root, who wrote this program."""
    from corefilt.filterbits import CoredumpFilter
    from corefilt.handler.config import Config

    settings, bits, uid, gid, files = marshal.loads(raw)
    config = Config()
    for name, value in zip(_SETTINGS, settings, strict=True):
        setattr(config, name, value)
    config.filter = CoredumpFilter(bits)
    return Order(config, Account(uid, gid), files)
