"""docs/production.md, from its first command to its last: the real CLI and engine, moto's server, a served sandbox.

The page's reader has AWS and Stripe where this has those two; the commands are the page's own. One stack runs through
all of it, in live mode, with restricted keys that have the permissions of docs/security.md and no others.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from sandbox import Request, Response, Sandbox
from sandbox.server import serving
from tests.components.test_permissions import names, table
from tests.engine.aws import Aws, install_cli
from tests.engine.conftest import ROOT, engine_path
from tests.engine.faulty import descendants, end

PAGE: Final = (ROOT / "docs/production.md").read_text()
#: For one block of commands; a busy machine takes minutes.
TIMEOUT: Final = 400
BLOCK: Final = re.compile(
    r"^(?:`([a-z]+\.json)`[^\n]*:\n\n)?```(sh|text|json|python)\n(.*?)^```", re.MULTILINE | re.DOTALL
)
#: Not keys of anybody's; they are built here so that no scanner takes this file for a leak.
UP, READ, NEXT = (f"rk_live_{word}" + "0" * 16 for word in ("up", "read", "next"))


class Company:
    """A folder with the project, and a shell that keeps what is exported in it."""

    def __init__(self, folder: Path, aws: Aws, sandbox: Watched, stripe: str) -> None:
        self.aws, self.sandbox = aws, sandbox
        self.folder, self._exports = folder / "project", folder / "exports.sh"
        self.folder.mkdir()
        (folder / "bin").mkdir()
        install_cli(folder / "bin")
        self.program = (ROOT / "__main__.py").read_text()
        (self.folder / "Pulumi.yaml").write_text("name: stripe-pricing\nruntime: python\n")
        self.write(self.program)
        self._exports.touch()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PULUMI_", "STRIPE_", "AWS_"))}
        self.environ = {
            **kept,
            **aws.environ,
            "PATH": f"{folder / 'bin'}:{engine_path()}",
            "VIRTUAL_ENV": str(Path(sys.executable).parents[1]),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_HOME": str(folder / "home"),
            # In place of Stripe itself.
            "STRIPE_API_BASE": stripe,
            "NO_COLOR": "1",
        }
        self.said = ""
        self.code = 0

    def write(self, program: str) -> None:
        (self.folder / "__main__.py").write_text(program)

    def sh(self, script: str, *, given: str = "", code: int = 0) -> str:
        """Run some commands of the page in its shell; what they print."""
        self.aws.actions.clear()
        keep = f". {self._exports}\nset -euo pipefail\n"
        done = subprocess.run(
            ["bash", "-c", f"{keep}{script}\nexport -p > {self._exports}"],
            cwd=self.folder,
            env=self.environ,
            input=given,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        self.said = done.stdout + done.stderr
        assert done.returncode == code, f"{script}\nended with {done.returncode}:\n{self.said}"
        assert "Traceback" not in self.said
        for key in (UP, READ, NEXT):
            assert key not in self.said
        return self.said

    def pulumi_up(self) -> subprocess.Popen[str]:
        """Start `pulumi up` in the page's shell."""
        return subprocess.Popen(
            ["bash", "-c", f". {self._exports}; exec pulumi up --stack prod --yes --skip-preview"],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


class Watched(Sandbox):
    """A sandbox that can act once an answer is there."""

    on_answer: Callable[[Request], None] = staticmethod(lambda request: None)

    def handle(self, request: Request) -> Response:
        answer = super().handle(request)
        self.on_answer(request)
        return answer

    def control(self, name: str, **body: Any) -> None:
        headers = {"content-type": "application/json"}
        answer = self.handle(Request("POST", f"/_sandbox/{name}", headers, json.dumps(body).encode()))
        assert answer.status == 200, answer.body

    def call(self, method: str, path: str, body: str = "") -> dict[str, Any]:
        """A call by somebody else, in live mode."""
        headers = {"authorization": "Bearer sk_" + "live_somebody", "content-type": "application/x-www-form-urlencoded"}
        answer = self.handle(Request(method, path, headers, body.encode()))
        assert answer.status == 200, answer.body
        found: dict[str, Any] = json.loads(answer.body)
        return found


class Reader:
    """Reads the page block by block, and does what it says."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self._blocks = [(file or "", kind, text) for file, kind, text in BLOCK.findall(PAGE)]

    def next(self, kind: str) -> str:
        """The page's next block, which is of this kind."""
        _, found, text = self._blocks.pop(0)
        assert found == kind, f"the page goes on with {found}, not {kind}:\n{text}"
        return str(text)

    def runs(self, *, given: str = "", code: int = 0, **words: str) -> None:
        """Run the commands that come next."""
        script = self.next("sh")
        for word, instead in words.items():
            script = script.replace(f"{word}_...", instead)
        self.company.sh(script, given=given, code=code)

    def shows(self) -> None:
        """What comes next was printed, in this order."""
        said = " ".join(self.company.said.split())
        for line in filter(None, (" ".join(line.split()) for line in self.next("text").splitlines())):
            _, found, said = said.partition(line)
            assert found, f"not printed, or not after the line before: {line}\n{self.company.said}"

    def files(self) -> dict[str, str]:
        """The files that the page shows, by their names."""
        return {file: text for file, _, text in self._blocks if file}

    def skip(self, kind: str) -> None:
        self.next(kind)

    @property
    def is_done(self) -> bool:
        return not self._blocks


def allowed(policy: str) -> set[str]:
    """The actions of a policy."""
    found: set[str] = set()
    for statement in json.loads(policy)["Statement"]:
        actions = statement["Action"]
        found |= {actions} if isinstance(actions, str) else set(actions)
    return found


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    sandbox = Watched(tmp_path / "stripe.db")
    with Aws().served() as aws, serving(sandbox) as server:
        for role in ("pricing-up", "pricing-preview", "pricing-verify"):
            aws.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument="{}")
        permissions = {
            UP: names(table()["up"]),
            READ: sorted({*names(table()["refresh"]), *names(table()["pricing verify"])}),
            NEXT: names(table()["up"]),
        }
        for key, granted in permissions.items():
            sandbox.control("keys", key=key, permissions=granted)
        yield Company(tmp_path, aws, sandbox, server.url)
    sandbox.close()


@contextmanager
def killed_at(company: Company, method: str, path: str) -> Iterator[None]:
    """A `pulumi up` that is killed with all its processes, when Stripe has carried out a request and not answered."""
    process = company.pulumi_up()
    reached = threading.Event()

    def on_answer(request: Request) -> None:
        if (request.method, request.url.partition("?")[0]) == (method, path) and not reached.is_set():
            reached.set()
            for pid in [process.pid, *descendants(process.pid)]:
                end(pid, signal.SIGKILL)

    company.sandbox.on_answer = on_answer
    said, _ = process.communicate(timeout=TIMEOUT)
    company.sandbox.on_answer = lambda request: None
    assert reached.is_set(), said
    yield


@pytest.mark.timeout(1200)
def test_every_command_of_the_page(company: Company) -> None:
    page = Reader(company)
    aws, sandbox = company.aws, company.sandbox
    files = page.files()
    for name, text in files.items():
        (company.folder / name).write_text(text)
    used: dict[str, set[str]] = {"up.json": set(), "preview.json": set()}

    # The state and its key.
    page.runs()
    assert aws.client("s3").get_bucket_versioning(Bucket="pricing-state")["Status"] == "Enabled"
    for _ in files:
        page.skip("json")

    # The stack.
    page.runs(acct=str(sandbox.call("GET", "/v1/account")["id"]))
    used["up.json"] |= set(aws.actions)
    page.runs()
    used["preview.json"] |= set(aws.actions)
    page.shows()

    # The keys.
    create, read = page.next("sh").splitlines()
    company.sh(create, given=f"{UP}\n")
    company.sh(read, given=f"{READ}\n")

    # Apply.
    page.runs()
    used["up.json"] |= set(aws.actions)
    page.shows()
    page.runs()
    used["up.json"] |= set(aws.actions)
    page.shows()
    assert used["up.json"] == allowed(files["up.json"])
    assert used["preview.json"] == allowed(files["preview.json"])

    # Every night.
    page.runs()
    page.shows()
    assert set(aws.actions) == allowed(files["verify.json"]), "neither Pulumi nor its state is asked"
    [price] = [each["id"] for each in sandbox.call("GET", "/v1/prices?lookup_keys[]=alpaca-ai:usage")["data"]]
    sandbox.call("POST", f"/v1/prices/{price}", "active=false")
    company.sh("pricing verify --stack prod", code=2)
    page.shows()
    sandbox.call("POST", f"/v1/prices/{price}", "active=true")

    # S3 does not answer: nothing is sent to Stripe.
    asked: list[str] = []
    sandbox.on_answer = lambda request: asked.append(request.url)
    aws.refuse = lambda action, path: action.startswith("s3:")
    company.sh("pulumi up --stack prod --yes", code=1)
    assert "operation error S3: GetObject" in company.said
    assert asked == []

    # A run is killed: Stripe has the seats, and the state does not.
    aws.refuse = lambda action, path: False
    company.sh(f'export STRIPE_API_KEY="{UP}"')
    company.write(company.program.replace("seats=3", "seats=4"))
    [subscription] = [each["id"] for each in sandbox.call("GET", "/v1/subscriptions")["data"]]
    with killed_at(company, "POST", f"/v1/subscriptions/{subscription}"):
        company.sh("pulumi up --stack prod --yes", code=1)
    page.shows()
    page.runs()
    page.shows()
    assert "pending" not in company.said
    assert sandbox.call("GET", f"/v1/subscriptions/{subscription}")["items"]["data"][0]["quantity"] == 4
    charged = sandbox.call("GET", "/v1/invoiceitems")["data"]
    assert len(charged) == 2, "one credit and one charge for the seats"

    # A customer leaves.
    subscriber = re.search(r"        Subscriber\(.*?\n        \),\n", company.program, re.DOTALL)
    assert subscriber
    without = company.program.replace(subscriber[0], "")
    company.write(without)
    company.sh("pulumi preview --stack prod", code=1)
    assert "cannot be deleted" in company.said
    company.write(company.program.replace(subscriber[0], f"        {page.next('python').strip()},\n"))
    # For a short time the state cannot be written; that is waited out.
    cut = iter(range(4))
    aws.refuse = lambda action, path: action == "s3:PutObject" and "/stacks/" in path and next(cut, None) is not None
    page.runs()
    assert next(cut, None) is None
    company.write(without)
    page.runs()
    page.shows()
    page.runs()
    page.shows()
    assert sandbox.call("GET", f"/v1/subscriptions/{subscription}")["status"] == "canceled"
    assert "Customer 'alpaca-ai-first-customer'" in company.sh("pricing verify --stack prod")

    # Rotate a key.
    page.runs(given=f"{NEXT}\n")
    page.shows()
    sandbox.control("keys", key=UP, status="expired")
    company.sh("pulumi up --stack prod --yes")

    # A first up without checkpoints.
    page.runs()
    assert aws.actions["s3:PutObject"] < 10
    assert page.is_done

    # No key and no secret is in clear anywhere.
    s3 = aws.client("s3")
    stored = s3.list_objects_v2(Bucket="pricing-state")["Contents"]
    assert any(each["Key"].endswith("stacks/stripe-pricing/prod.json") for each in stored)
    for each in stored:
        body = s3.get_object(Bucket="pricing-state", Key=each["Key"])["Body"].read()
        assert not any(key.encode() in body for key in (UP, READ, NEXT)), f"a key is in {each['Key']}"
    assert "rk_live" not in (company.folder / "Pulumi.prod.yaml").read_text()
