"""What a sentence may hold: no key, which is cut down to its kind (`sk_live_***`), and nothing but plain text."""

from __future__ import annotations

import re
import threading
from typing import Final

_KEY: Final = re.compile(r"\b((?:sk|rk|pk)_(?:test|live)|whsec)_[A-Za-z0-9*_]+")
_PREFIX: Final = re.compile(r"[a-z]{2}_(?:test|live)_?")
#: Name and password in an address, such as a proxy's.
_USER: Final = re.compile(r"(?<=://)[^/\s@]+@")
#: A part of a broken key that is shorter than this says nothing, and may be a word.
_SHORTEST: Final = 6

_known: set[str] = set()
_lock = threading.Lock()


def remember(secret: str) -> None:
    """Cut this value, which no pattern finds, out of every text from now on: whole, and each piece of a broken one."""
    pieces = {secret, repr(secret)[1:-1], *re.split(r"[^A-Za-z0-9_]+", secret)}
    with _lock:
        _known.update(piece for piece in pieces if len(piece) >= _SHORTEST and not _PREFIX.fullmatch(piece))


def redact(text: str) -> str:
    """The text with every Stripe key in it cut down to its kind, and every remembered value cut out."""
    text = _KEY.sub(r"\1_***", _USER.sub("***@", text))
    with _lock:
        known = sorted(_known, key=len, reverse=True)
    for secret in known:
        text = text.replace(secret, "***")
    return text


def as_line(text: str) -> str:
    """The text, redacted, as one line of plain text.

    Names that customers give themselves are in it: a control character would reach the terminal, and `<{%` begins a
    color to Pulumi, which stops at one that it does not know.
    """
    flat = " ".join(text.split())
    return redact("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in flat)).replace(
        "<{%", "< {%"
    )
