"""Posts the review of a pull request as one comment, which it updates in place, and as a status of the commit.

    python3 script/ci/comment.py FOLDER [FOLDER ...]

takes the first folder that has a review (`script/ci/review`). It runs after the workflow that made it, with the code of
the default branch and a token that may write comments. What it reads may come from the code of a fork: it is text, and
decides neither which pull request gets it nor which comment is replaced. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

LONGEST: Final = 65_000
CONTEXT: Final = "pricing review"
MARKER: Final = "<!-- pricing review -->"
BOT: Final = "github-actions[bot]"
FROM_A_FORK: Final = "_Made by the code of this pull request, which comes from a fork: read that code too._"
SETTLED: Final = "**Nothing changes any more.** This pull request has no effect on prices or subscriptions."
MISSING: Final = "⛔ **The review could not be made.**"
STATUSES: Final[Mapping[str, tuple[str, str]]] = {
    "0": ("success", "no objection"),
    "2": ("failure", "a guardrail is exceeded and not acknowledged"),
    "3": ("error", "the review failed, or cannot be trusted"),
}


class CommentError(Exception):
    """The comment cannot be posted; the message is one line, without the token."""


class GitHub:
    """The few endpoints of GitHub's REST API that this needs: https://docs.github.com/rest"""

    def __init__(self, address: str, token: str) -> None:
        self._address, self._token = address.rstrip("/"), token

    def get(self, path: str) -> Any:
        return self._send("GET", path)

    def send(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        return self._send(method, path, json.dumps(body).encode())

    def all(self, path: str) -> Iterator[Any]:
        """Every entry of a list."""
        for page in range(1, 101):
            found = self.get(f"{path}{'&' if '?' in path else '?'}per_page=100&page={page}")
            yield from found
            if len(found) < 100:
                return

    def _send(self, method: str, path: str, body: bytes | None = None) -> Any:
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._token}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        request = urllib.request.Request(f"{self._address}{path}", data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise CommentError(f"GitHub answers {method} {path} with {error.code}") from None
        except (urllib.error.URLError, TimeoutError) as error:
            raise CommentError(f"GitHub cannot be reached: {error}") from None


def main(folders: Sequence[str]) -> int:
    """Post the review; returns the exit code."""
    try:
        github = GitHub(_needed("GITHUB_API_URL"), _needed("GITHUB_TOKEN"))
        repository = _needed("GITHUB_REPOSITORY")
        event = json.loads(Path(_needed("GITHUB_EVENT_PATH")).read_text(encoding="utf-8"))
        print(post(github, repository, event["workflow_run"], review(folders)))
    except CommentError as error:
        print(f"comment: {error}", file=sys.stderr)
        return 3
    return 0


def review(folders: Sequence[str]) -> tuple[str, str]:
    """The comment and the exit code of the first folder that has them."""
    for folder in map(Path, folders):
        if (folder / "comment.md").is_file():
            text = (folder / "comment.md").read_bytes()[: 4 * LONGEST].decode("utf-8", errors="replace")
            code = (
                (folder / "code").read_text(encoding="utf-8", errors="replace")[:2].strip()
                if (folder / "code").is_file()
                else ""
            )
            return text, code if code in STATUSES else "3"
    return MISSING, "3"


def post(github: GitHub, repository: str, run: Mapping[str, Any], found: tuple[str, str]) -> str:
    """Post or update the comment of the pull request that a run was for; returns what was done."""
    pull = pull_request(github, repository, run)
    if pull is None:
        return "no open pull request has this commit any more"
    number, head = int(pull["number"]), str(run["head_sha"])
    text, code = found
    state, description = STATUSES[code]
    address = (
        f"{os.environ.get('GITHUB_SERVER_URL', '')}/{repository}/actions/runs/{os.environ.get('GITHUB_RUN_ID', '')}"
    )
    github.send(
        "POST",
        f"/repos/{repository}/statuses/{head}",
        {"state": state, "context": CONTEXT, "description": description, "target_url": address},
    )
    there = present(github, repository, number)
    body = written(text, head, address, is_fork=_source(run) != repository)
    if not text.strip() and there is None:
        return f"#{number}: nothing changes"
    if there is None:
        github.send("POST", f"/repos/{repository}/issues/{number}/comments", {"body": body})
        return f"#{number}: commented"
    github.send("PATCH", f"/repos/{repository}/issues/comments/{int(there['id'])}", {"body": body})
    return f"#{number}: comment updated"


def pull_request(github: GitHub, repository: str, run: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The open pull request whose head is the run's commit.

    GitHub lists no pull requests in the run of a fork, and a number in an artifact would be the fork's word.
    """
    branch = urllib.parse.quote(f"{_source(run).partition('/')[0]}:{run['head_branch']}")
    for pull in github.all(f"/repos/{repository}/pulls?state=open&head={branch}"):
        if pull["head"]["sha"] == run["head_sha"] and pull["head"]["repo"]["full_name"] == _source(run):
            return dict(pull)
    return None


def present(github: GitHub, repository: str, number: int) -> Mapping[str, Any] | None:
    """The comment that this script made before."""
    for comment in github.all(f"/repos/{repository}/issues/{number}/comments"):
        if comment["user"]["login"] == BOT and str(comment["body"]).startswith(MARKER):
            return dict(comment)
    return None


def written(text: str, head: str, run: str, *, is_fork: bool) -> str:
    """The body of the comment."""
    body = re.sub(r"\A<!--[^>]*-->", "", text.strip()).strip() or SETTLED
    end = f"\n\n<sub>{head[:12]} · [run]({run})</sub>"
    lines = [MARKER, *([FROM_A_FORK, ""] if is_fork else [])]
    room = LONGEST - len(end) - sum(map(len, lines)) - 100
    if len(body) > room:
        body = body[:room].rpartition("\n")[0] + "\n\n**The rest is left out: a comment cannot be longer.**"
    return "\n".join([*lines, body]) + end


def _source(run: Mapping[str, Any]) -> str:
    return str((run.get("head_repository") or {}).get("full_name"))


def _needed(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise CommentError(f"{name} is not set")
    return value


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
