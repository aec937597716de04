"""What an installation brings: a service that meters gets neither Pulumi nor gRPC."""

from __future__ import annotations

import re
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_base_distribution_has_no_heavy_dependency_and_extras_name_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hatchling.build import prepare_metadata_for_build_wheel

    monkeypatch.chdir(ROOT)
    folder = prepare_metadata_for_build_wheel(str(tmp_path))
    metadata = Parser().parsestr((tmp_path / folder / "METADATA").read_text())
    base: list[str] = []
    extras: dict[str, list[str]] = {}
    for need in metadata.get_all("Requires-Dist") or []:
        name = re.split(r"[^\w.-]", need, maxsplit=1)[0]
        extra = re.search(r"extra *== *['\"](\w+)", need)
        (extras.setdefault(extra.group(1), []) if extra else base).append(name)
    assert base == ["stripe"]
    assert {"pulumi", "pydantic", "rich"} <= set(extras["pulumi"])
    assert extras["sqs"] == ["boto3"]


def test_the_lock_holds_every_extra() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for name in ("pulumi", "pydantic", "rich", "boto3", "stripe", "grpcio"):
        assert f"\n{name}==" in f"\n{lock}", name
