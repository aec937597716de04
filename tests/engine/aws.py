"""moto's server as an AWS account: S3, KMS, Secrets Manager and IAM on a loopback port, and what was asked of it."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs
from urllib.request import ProxyHandler, Request, build_opener

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

REGION: Final = "us-east-1"
_SERVICE: Final = re.compile(r"Credential=[^/]+/\d+/[^/]+/([a-z0-9]+)/")
#: The permission behind an S3 request, by its method; a list has a parameter.
_S3: Final = {
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "PUT": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}


class Aws:
    """One account.

    Attributes:
        endpoint: its address, while it is served.
        actions: how often each permission was used: `s3:PutObject`, `kms:Decrypt`.
        written: bytes that were sent to S3.
        latency: seconds that each request waits.
        refuse: makes a request fail with 503, given its permission and path.
    """

    def __init__(self, latency: float = 0) -> None:
        self.endpoint = ""
        self.actions: Counter[str] = Counter()
        self.written = 0
        self.latency = latency
        self.refuse: Callable[[str, str], bool] = lambda action, path: False
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        time.sleep(self.latency)
        action, path = _action(environ), environ["PATH_INFO"]
        with self._lock:
            self.actions[action] += 1
            if action == "s3:PutObject":
                self.written += int(environ.get("CONTENT_LENGTH") or 0)
        if self.refuse(action, path):
            start("503 Service Unavailable", [("content-type", "text/plain")])
            return [b"cut off"]
        return self._moto(environ, start)

    @contextmanager
    def served(self) -> Iterator[Aws]:
        """Serve it while the block runs."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request otherwise
        server = make_server("127.0.0.1", 0, self, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            # All of moto's servers in a process are one account.
            direct = build_opener(ProxyHandler({}))
            direct.open(Request(f"{self.endpoint}/moto-api/reset", method="POST")).close()
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    @property
    def environ(self) -> dict[str, str]:
        """What the SDKs of AWS read, those of Go and Python alike."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )


def _action(environ: dict[str, Any]) -> str:
    """The permission that a request needs."""
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        service, _, operation = str(target).rpartition(".")
        return f"{'kms' if service.startswith('TrentService') else service}:{operation}"
    named = _SERVICE.search(environ.get("HTTP_AUTHORIZATION", ""))
    service = named[1] if named else "?"
    method, query = environ["REQUEST_METHOD"], parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    if service != "s3":
        return f"{service}:{method}"
    if environ["PATH_INFO"].count("/") == 1 or environ["PATH_INFO"].endswith("/"):
        return "s3:ListBucket" if method in ("GET", "HEAD") else f"s3:{method} {' '.join(sorted(query))}".strip()
    return _S3[method]


def install_cli(folder: Path) -> None:
    """Put an `aws` on a PATH: AWS's command line is no package that a test can depend on (`aws_cli.py`)."""
    command = folder / "aws"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("aws_cli.py")} "$@"\n')
    command.chmod(0o755)
