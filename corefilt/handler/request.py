"""What the parent tells the child to do once the settings are read: a few values, through a pipe."""

from __future__ import annotations

import marshal

from corefilt.handler.account import Account

# Each is written in one piece (PIPE_BUF); an order takes some hundred bytes, an allowance 21 for each signature.
MOST = 4096
# What the child goes by; the rest of the settings is the parent's.
_SETTINGS = (
    "annotate_full", "awaits", "compress", "free_space", "journal_maps", "minimal", "most", "rlimit", "signs",
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
    return marshal.dumps((settings, order.config.filter, account.uid, account.gid, order.files))


def unpack(raw: bytes) -> Order:
    """The order that these bytes are; they come from root, who wrote this program."""
    from corefilt.handler.config import Config

    settings, bits, uid, gid, files = marshal.loads(raw)
    config = Config()
    for name, value in zip(_SETTINGS, settings, strict=True):
        setattr(config, name, value)
    config.filter = bits
    return Order(config, Account(uid, gid), files)


class Allowance:
    """What a core may come to, said when it is read: ``budget`` is its most disk use in bytes, or None.

    It is made minimal if its signature is one of ``full``: there are enough full cores of that crash.
    """

    __slots__ = ("budget", "full")

    def __init__(self, budget: int | None = None, full: tuple[str, ...] = ()) -> None:
        self.budget, self.full = budget, full

    def pack(self) -> bytes:
        """The allowance as bytes."""
        return marshal.dumps((self.budget, self.full))

    @classmethod
    def unpack(cls, raw: bytes) -> Allowance:
        """The allowance that these bytes are; they come from root, who wrote this program."""
        return cls(*marshal.loads(raw))
