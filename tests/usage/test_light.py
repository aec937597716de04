"""What an installation brings: a service that meters gets neither Pulumi nor gRPC."""

from __future__ import annotations

import os
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
    needs = metadata.get_all("Requires-Dist") or []
    base = [need.partition("=")[0].partition(">")[0] for need in needs if "extra ==" not in need]
    assert base == ["stripe"]
    extras = {
        name: [need for need in needs if f"extra == '{name}'" in need] for name in metadata.get_all("Provides-Extra")
    }
    assert {name: sorted(need.split("=")[0].split(">")[0] for need in some) for name, some in extras.items()} == {
        "pulumi": ["pulumi", "pydantic", "rich"],
        "sqs": ["boto3"],
    }


def test_the_lock_holds_every_extra() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for name in ("pulumi", "pydantic", "rich", "boto3", "stripe", "grpcio"):
        assert f"\n{name}==" in f"\n{lock}", name
    assert os.path.getsize(ROOT / "requirements.lock") > 10_000
