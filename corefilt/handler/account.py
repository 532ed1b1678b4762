"""The account that the child works under, found without the name service: a daemon of it can be what crashed."""

from __future__ import annotations

from corefilt.errors import ConfigError

PASSWD = "/etc/passwd"
_MOST = (1 << 32) - 2


class Account:
    """The numbers of a user and a group; neither is root's."""

    __slots__ = ("gid", "uid")

    def __init__(self, uid: int, gid: int) -> None:
        """Hold the two. Raises ConfigError for root's."""
        if not 0 < uid <= _MOST or not 0 < gid <= _MOST:
            raise ConfigError(f"user {uid}:{gid} is root's or none", "name an account that owns nothing else")
        self.uid, self.gid = uid, gid


def find_account(user: str, passwd: str = PASSWD) -> Account:
    """The account of ``UID``, ``UID:GID`` or a name in /etc/passwd; a bare UID has the group of its number.

    Raises ConfigError.
    """
    uid, colon, gid = user.partition(":")
    if _is_number(uid) and (_is_number(gid) or not colon):
        return Account(int(uid), int(gid or uid))
    try:
        with open(passwd, "rb") as file:
            rows = [line.split(b":") for line in file.read().split(b"\n")]
    except OSError as error:
        raise ConfigError(f"{passwd}: cannot be read: {error.strerror}") from None
    for row in rows:
        if row[0] == user.encode() and len(row) >= 4 and row[2].isdigit() and row[3].isdigit():
            return Account(int(row[2]), int(row[3]))
    raise ConfigError(f"user {user!r} is not in {passwd}", 'create it, or give user as "UID:GID"')


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10
