"""`up` of 200 objects with its state on S3 (moto's server, slowed down) and in a folder, with and without checkpoints.

moto answers a request in a millisecond or two. `--latency` is how long each request waits before that.
"""

from __future__ import annotations

import argparse
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from benchmarks._engine import Size, measured, project

REGION = "us-east-1"
AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}
WITHOUT_CHECKPOINTS = {"PULUMI_SKIP_CHECKPOINTS": "true"}


class Aws:
    """moto's S3 and KMS behind a delay.

    Attributes:
        requests: how many S3 requests came, by method.
        sent: bytes of the objects that were written.
    """

    def __init__(self, latency: float) -> None:
        self.requests: Counter[str] = Counter()
        self.sent = 0
        self._latency = latency
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        time.sleep(self._latency)
        if "x-amz-target" not in {name.removeprefix("HTTP_").replace("_", "-").lower() for name in environ}:
            with self._lock:
                self.requests[environ["REQUEST_METHOD"]] += 1
                self.sent += int(environ.get("CONTENT_LENGTH") or 0)
        return self._moto(environ, start)

    @contextmanager
    def serving(self) -> Iterator[str]:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = make_server("127.0.0.1", 0, self, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=200, help="how many objects (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=30, help="milliseconds a request (default: %(default)s)")
    arguments = parser.parse_args()
    size = Size.of(arguments.objects)
    aws = Aws(arguments.latency / 1000)
    took: dict[str, float] = {}
    with aws.serving() as endpoint:
        key = client("kms", endpoint).create_key()["KeyMetadata"]["KeyId"]
        for where in ("folder", "S3"):
            for how, env in (("with checkpoints", {}), ("without", WITHOUT_CHECKPOINTS)):
                with project(size.program()) as made:
                    if where == "S3":
                        bucket = f"state-{len(took)}"
                        client("s3", endpoint).create_bucket(Bucket=bucket)
                        made.environ |= {**AWS, "AWS_ENDPOINT_URL_KMS": endpoint}
                        made.environ["PULUMI_BACKEND_URL"] = (
                            f"s3://{bucket}?region={REGION}&endpoint={endpoint}&s3ForcePathStyle=true"
                        )
                        secrets = f"awskms:///{key}?region={REGION}&awssdk=v2"
                        (made.folder / f"Pulumi.{made.stack}.yaml").unlink()
                        made.pulumi("stack", "init", made.stack, "--secrets-provider", secrets).ok()
                        made.config("stripe-pricing:mode", "sandbox")
                    aws.requests.clear()
                    aws.sent = 0
                    found = measured(made, "up", "--yes", "--skip-preview", env=env)
                    took[f"{where} {how}"] = found.seconds
                    print(f"up of {size.total} objects, state in {where}, {how}: {found.seconds:.1f} s", end="")
                    if where == "S3":
                        requests = ", ".join(f"{n} {method}" for method, n in sorted(aws.requests.items()))
                        print(f"; {requests}, {aws.sent / 1e6:.1f} MB sent", end="")
                    print(flush=True)
                    assert len(made.state()) == size.total, "everything is in the state"
    for where in ("folder", "S3"):
        print(f"{where}: {took[f'{where} with checkpoints'] / took[f'{where} without']:.1f} times as long with them")


def client(service: str, endpoint: str) -> Any:
    return boto3.client(
        service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
    )


if __name__ == "__main__":
    main()
