"""Refuses to keep a live stack's state or secrets where they are not safe, unless the stack allows it explicitly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from components import passphrase
from components.settings import NAMESPACE, Settings

#: The folder in which script/bootstrap keeps state if the user names no backend.
LOCAL_STATE: Final = ".pulumi-state"
PAGE: Final = 'README.md, "Your own Stripe account"'


def objections(settings: Settings, root: Path, stack: str, environ: Mapping[str, str]) -> Iterator[str]:
    """One sentence for each thing wrong with how a live stack is kept; nothing for other stacks.

    Args:
        root: the project's folder, with Pulumi.yaml and Pulumi.<stack>.yaml.
        environ: what the engine was started with.
    """
    if settings.mode != "live":
        return
    if not settings.allow_local_state and _is_local_state(root, environ.get("PULUMI_BACKEND_URL", "")):
        yield (
            f"{NAMESPACE}:mode is live and the state is the folder {LOCAL_STATE} of this checkout: if it is lost, "
            f"nothing knows what bills. Give the stack a backend of its own ({PAGE}), or allow this one: pulumi "
            f"config set {NAMESPACE}:allowLocalState true"
        )
    if not settings.allow_empty_passphrase and _opens_without_passphrase(root / f"Pulumi.{stack}.yaml", environ):
        yield (
            f"{NAMESPACE}:mode is live and an empty passphrase opens the stack's secrets, for anybody who has "
            f"Pulumi.{stack}.yaml or the state: run pulumi stack change-secrets-provider (with awskms://... or "
            "passphrase), and roll the API key if it was among them; or allow this: pulumi config set "
            f"{NAMESPACE}:allowEmptyPassphrase true"
        )


def _is_local_state(root: Path, backend: str) -> bool:
    parts = urlsplit(backend)
    return parts.scheme == "file" and Path(unquote(parts.path)).resolve() == (root / LOCAL_STATE).resolve()


def _opens_without_passphrase(file: Path, environ: Mapping[str, str]) -> bool:
    """Whether the stack's passphrase is empty. One from the environment has already opened the stack."""
    given = environ.get("PULUMI_CONFIG_PASSPHRASE")
    if given is None and (named := environ.get("PULUMI_CONFIG_PASSPHRASE_FILE")):
        try:
            given = Path(named).read_text().strip()
        except OSError:
            given = None
    if given:
        return False
    try:
        lines = file.read_text().splitlines()
    except OSError:
        # The stack's config is elsewhere (--config-file, stackConfigDir) and may name another secrets provider.
        return given is not None
    salts = [line.partition(":")[2] for line in lines if line.startswith("encryptionsalt:")]
    return any(passphrase.opens("", salt.strip().strip("\"'")) for salt in salts)
