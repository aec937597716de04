"""State on S3 and secrets under KMS, as a team would run it, on moto's real server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.engine.conftest import ROOT, Project

REGION = "us-east-1"
SECRET_KEY = "sk_test_never_in_clear"


@dataclass
class Aws:
    endpoint: str

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL_KMS": self.endpoint,
        }


@pytest.fixture
def aws() -> Iterator[Aws]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield Aws(f"http://{host}:{port}")
    finally:
        server.stop()


def test_a_stack_on_s3_with_its_key_under_kms(aws: Aws, new_project: Callable[..., Project]) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="pricing-state")
    key = aws.client("kms").create_key()["KeyMetadata"]["KeyId"]
    project = new_project((ROOT / "__main__.py").read_text())
    project = replace(project, stack="prod")
    project.environ |= aws.environ
    project.environ["PULUMI_BACKEND_URL"] = (
        f"s3://pricing-state?region={REGION}&endpoint={aws.endpoint}&s3ForcePathStyle=true"
    )
    project.pulumi("stack", "init", "prod", "--secrets-provider", f"awskms:///{key}?region={REGION}&awssdk=v2").ok()
    project.config("stripe-pricing:mode", "sandbox")
    project.run("config", "set", "--secret", "stripe-pricing:apiKey", SECRET_KEY).ok()

    project.up().ok()
    assert project.preview("--expect-no-changes").ok()

    objects = s3.list_objects_v2(Bucket="pricing-state")["Contents"]
    assert any(stored["Key"].endswith("stacks/stripe-pricing/prod.json") for stored in objects)
    for stored in objects:
        body = s3.get_object(Bucket="pricing-state", Key=stored["Key"])["Body"].read()
        assert SECRET_KEY.encode() not in body, f"the key is in clear in {stored['Key']}"
    assert SECRET_KEY not in (project.folder / "Pulumi.prod.yaml").read_text()

    # For real money too: the passphrase is empty, and opens nothing here.
    project.config("stripe-pricing:mode", "live")
    project.run("config", "rm", "stripe-pricing:apiKey").ok()
    assert project.environ["PULUMI_CONFIG_PASSPHRASE"] == ""
    assert "pulumi up will be refused" not in project.preview().ok().text
