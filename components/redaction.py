"""Keeps keys out of messages (`sk_live_***`), and messages to one line of plain text."""

from __future__ import annotations

import re
import threading
from typing import Final

_KEY: Final = re.compile(r"\b((?:sk|rk|pk)_(?:test|live)|whsec)_[A-Za-z0-9*_]+")
_PREFIX: Final = re.compile(r"[a-z]{2}_(?:test|live)_?")
#: Name and password in an address, such as a proxy's.
_USER: Final = re.compile(r"(?<=://)[^/\s@]+@")
#: A shorter piece of a malformed key reveals nothing, and may be a word.
_SHORTEST: Final = 6

_known: set[str] = set()
_lock = threading.Lock()


def remember(secret: str) -> None:
    """Redact this value, which no pattern matches, from now on: whole, and each piece of a malformed key."""
    pieces = {secret, repr(secret)[1:-1], *re.split(r"[^A-Za-z0-9_]+", secret)}
    with _lock:
        _known.update(piece for piece in pieces if len(piece) >= _SHORTEST and not _PREFIX.fullmatch(piece))


def redact(text: str) -> str:
    """The text with every Stripe key reduced to its prefix, and without remembered values."""
    text = _KEY.sub(r"\1_***", _USER.sub("***@", text))
    with _lock:
        known = sorted(_known, key=len, reverse=True)
    for secret in known:
        text = text.replace(secret, "***")
    return text


def as_line(text: str) -> str:
    """The text, redacted, as one line of plain text.

    It may contain names that customers chose: a control character would reach the terminal, and Pulumi reads `<{%` as
    a color and fails at one that it does not know.
    """
    flat = " ".join(text.split())
    if not flat.isprintable():
        flat = "".join([each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in flat])
    return redact(flat).replace("<{%", "< {%")
