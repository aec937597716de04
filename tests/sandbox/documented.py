"""What the sandbox covers, in words, from the tables it runs on: `python -m tests.sandbox.documented docs/sandbox.md`.

Rewrites the parts of the file between `<!-- begin NAME -->` and `<!-- end NAME -->`; a test fails when they are stale.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sandbox import kinds, spec
from sandbox.errors import ANSWERS, UNRECORDED
from sandbox.router import ROUTES

assert kinds  # imported for its routes


def endpoints() -> str:
    """Every operation, by path."""
    paths: dict[str, list[str]] = {}
    for method, template in ROUTES:
        paths.setdefault(template, []).append(method)
    order = ("GET", "POST", "DELETE")
    rows = (f"| `{path}` | {', '.join(sorted(paths[path], key=order.index))} |" for path in sorted(paths))
    return "\n".join(["| path | methods |", "|---|---|", *rows])


def missing() -> str:
    """Operations of the described part of Stripe's API that are refused."""
    refused: dict[str, list[str]] = {}
    for path, methods in spec.document()["paths"].items():
        lacking = [method.upper() for method in sorted(methods) if (method.upper(), path) not in ROUTES]
        if lacking:
            refused[path] = lacking
    return "\n".join(f"- `{path}` ({', '.join(methods)})" for path, methods in sorted(refused.items()))


def parameters() -> str:
    """Parameters, and in brackets values, that are taken beside those of Stripe's description."""
    lines = []
    extras, values = spec.beside()["parameters"], spec.beside()["values"]
    for operation in sorted(extras.keys() | values.keys()):
        names = [f"`{name}`" for name in sorted(extras.get(operation, ()))]
        for name, more in sorted(values.get(operation, {}).items()):
            names.append(f"`{name}` ({', '.join(more)})")
        lines.append(f"- `{operation}`: {', '.join(names)}")
    return "\n".join(lines)


def unrecorded() -> str:
    """Texts that are ours, because nobody has published Stripe's."""
    lines = ["| status | code | param | text |", "|---|---|---|---|"]
    for row in ANSWERS.values():
        if row.evidence == UNRECORDED:
            text = row.message.replace("|", "\\|")
            code = "" if row.code is None else f"`{row.code}`"
            param = "" if row.param is None else f"`{row.param}`"
            lines.append(f"| {row.status} | {code} | {param} | {text} |")
    return "\n".join(lines)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "endpoints": endpoints,
    "missing": missing,
    "parameters": parameters,
    "unrecorded": unrecorded,
}


def rewritten(text: str) -> str:
    """The document with its generated parts as they should be."""
    for name, part in PARTS.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        pattern = re.escape(begin) + r".*?" + re.escape(end)
        whole = f"{begin}\n{part()}\n{end}"
        text = re.sub(pattern, lambda _, whole=whole: whole, text, flags=re.DOTALL)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(rewritten(document.read_text(encoding="utf-8")), encoding="utf-8")
