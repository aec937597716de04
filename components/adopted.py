"""The existing objects that a stack adopts, by resource: `adopted.<stack>.json` beside Pulumi.yaml.

`pricing adopt` writes the file. The ids are not in the program, because they are those of one account: another stack of
the program creates its own objects, or has a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pulumi

from components.settings import SettingsError
from components.this_run import this_run

Ids = Mapping[str, Mapping[str, str]]
"""The id of each adopted object, by kind and resource name: `{"Price": {"pro-license": "price_1"}}`."""


def file_name(stack: str) -> str:
    return f"adopted.{stack}.json"


def adopted(kind: str, name: str) -> str | None:
    """The id of the object that a resource adopts on this stack; None for none.

    Raises:
        SettingsError: the stack's file is not one of `pricing adopt`.
    """
    run = this_run()
    if run.adopted is None:
        path = project_folder(Path.cwd()) / file_name(pulumi.get_stack())
        run.adopted = read(path) if path.is_file() else {}
    return run.adopted.get(kind, {}).get(name)


def read(path: Path) -> Ids:
    """The ids in a file.

    Raises:
        SettingsError: it is not one of `pricing adopt`.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(kind): {str(name): _text(id_) for name, id_ in names.items()} for kind, names in found.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise SettingsError(
            f'{path.name} cannot be read: it must be {{"Price": {{"pro-license": "price_..."}}}}, as pricing adopt '
            f"writes it ({error})"
        ) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no id")
    return value


def project_folder(inside: Path) -> Path:
    """The folder with Pulumi.yaml (a program runs there, or in a folder below that `main:` names)."""
    folders = (inside, *inside.parents)
    return next((each for each in folders if (each / "Pulumi.yaml").is_file()), inside)
