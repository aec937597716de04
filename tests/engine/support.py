"""What the matrix tests share: the sandbox's request log, what a person reads in `--diff`, ids by resource name."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from sandbox import Request, Sandbox
from sandbox.client import SandboxHTTPClient
from tests.engine.conftest import Project

#: What every program of these tests begins with.
IMPORTS: Final = "from components.resources import Customer, DefaultPrice, Meter, Price, Product, Subscription\n"

_HEADER: Final = re.compile(r"^ *([-+~=<>]*) ?pulumi-python:dynamic/stripe:(\w+): \(([\w-]+)\)")
_URN: Final = re.compile(r"^ *\[urn=.*::([^:\]]+)\]$")
_NOISE: Final = re.compile(r"^ *\[(id|urn)=.*\]$|^ *pulumi:pulumi:Stack: \(same\)$")
_ID: Final = re.compile(r"(?<=/)(?:acct|cus|mtr|price|prod|si|sub)_\w+")


#: A second version of the project's own plan, at 120.00 USD, to which its subscriber moves at once.
SECOND_VERSION: Final = (
    '{1: first, 2: Version(Plan("Alpaca.ai", fees=Fee("120.00"), usage=first.usage), rollout="now")}'
)


def add_second_version(project: Project) -> None:
    """Change the price of the project's own program, as a person would."""
    project.edit("Overage, Plan, Usage", "Overage, Plan, Usage, Version")
    project.edit('"alpaca-ai", first,', f'"alpaca-ai", {SECOND_VERSION},')


# -- the sandbox ------------------------------------------------------------------------------------------------------


def sandbox_of(project: Project) -> Sandbox:
    """The project's embedded sandbox, opened a second time."""
    return SandboxHTTPClient(project.sandbox_file).sandbox


def control(project: Project, method: str, name: str, /, **params: Any) -> dict[str, Any]:
    """Call the sandbox's control interface."""
    body = json.dumps(params).encode() if params else b""
    answer = sandbox_of(project).handle(Request(method, f"/_sandbox/{name}", {}, body))
    parsed: dict[str, Any] = json.loads(answer.body)
    assert answer.status == 200, parsed
    return parsed


@dataclass(frozen=True)
class Call:
    """One request of the log.

    Attributes:
        route: method and path, the ids in it replaced by `*`.
        params: what was sent, as Stripe names it: `items[0][price]`.
    """

    route: str
    path: str
    params: dict[str, str]
    status: int
    error: Any

    @property
    def owner(self) -> str | None:
        """The resource that the parameters name."""
        owner = self.params.get("metadata[pulumi]")
        return owner and owner.rpartition("/")[2]


class Log:
    """The requests that arrive from now on."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._after = max((line["seq"] for line in self._lines(0)), default=0)

    def calls(self) -> list[Call]:
        """Every request since, in the order in which they were answered."""
        found = []
        for line in self._lines(self._after):
            path = urlsplit(line["url"]).path
            query = f"{urlsplit(line['url']).query}&{line['body']}"
            params = {key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()}
            found.append(Call(f"{line['method']} {_ID.sub('*', path)}", path, params, line["status"], line["error"]))
        return found

    def counts(self) -> Counter[str]:
        """How often each route was called since."""
        return Counter(call.route for call in self.calls())

    def _lines(self, after: int) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = control(self._project, "GET", "requests", after=after)["data"]
        return lines


# -- the stack --------------------------------------------------------------------------------------------------------


def ids(project: Project) -> dict[str, str]:
    """The ids in the stack's state, by kind and name: `Price license`. Read from the file: an export costs a second."""
    file = project.folder / "state/.pulumi/stacks/stripe-pricing" / f"{project.stack}.json"
    resources = json.loads(file.read_text())["checkpoint"]["latest"].get("resources", [])
    return {
        f"{resource['type'].rpartition(':')[2]} {resource['urn'].rpartition('::')[2]}": resource["id"]
        for resource in resources
        # One that is replaced and not deleted yet is not the resource any more.
        if resource["type"].startswith("pulumi-python:dynamic/stripe:") and not resource.get("delete")
    }


def operations(project: Project) -> dict[str, str]:
    """What an `up` would do, by kind and name; what stays as it is left out."""
    found = {}
    for step in project.preview_json()["steps"]:
        kind, name = step["urn"].split("::")[-2:]
        if step["op"] != "same":
            found[f"{kind.rpartition(':')[2]} {name}"] = step["op"]
    return found


def shown(text: str) -> dict[str, list[str]]:
    """What `--diff` prints of each resource, by kind and name.

    The first line is the operation (`update`), then come the lines below it as a person reads them: without ids, urns
    and indentation, and with single spaces before a colon.
    """
    blocks: dict[str, list[str]] = {}
    lines: list[str] = []
    kind = ""
    for line in text.splitlines():
        if header := _HEADER.match(line):
            kind, lines = header[2], [header[3]]
        elif line.startswith("Resources:"):
            lines = []
        elif kind and (urn := _URN.match(line)):
            name = f"{kind} {urn[1]}"
            blocks[name + " (2)" * (name in blocks)] = lines
        elif not _NOISE.match(line) and line.strip():
            lines.append(re.sub(r"\s*:", ":", line.strip(), count=1))
    return blocks


def no_changes(project: Project) -> None:
    """The program and Stripe agree, as far as the state tells."""
    project.preview("--expect-no-changes").ok()
