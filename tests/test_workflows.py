"""The GitHub workflows: what they pin, what they may do, who gets which key; and the script that posts the comment.

GitHub itself is a server on this machine with the few endpoints that the script calls.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

ROOT: Final = Path(__file__).parents[1]
WORKFLOWS: Final = sorted((ROOT / ".github/workflows").glob("*.yml"))
#: The commits of the tags, from https://github.com/actions.
PINS: Final = {
    "actions/checkout": ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
    "actions/setup-python": ("5fda3b95a4ea91299a34e894583c3862153e4b97", "v7.0.0"),
    "actions/upload-artifact": ("bbbca2ddaa5d8feaa63e36b76fdaad77386f024f", "v7.0.0"),
    "actions/download-artifact": ("3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c", "v8.0.1"),
}
READ: Final = {"contents": "read"}
#: What each job may do, and the environment that its keys are of.
JOBS: Final[dict[str, tuple[dict[str, str], str | None]]] = {
    "review.yml evaluate": (READ, None),
    "review-comment.yml preview": (READ, "review"),
    "review-comment.yml comment": ({**READ, "actions": "read", "pull-requests": "write", "statuses": "write"}, None),
    "up.yml test": (READ, "test"),
    "up.yml review": (READ, "review"),
    "up.yml prod": (READ, "prod"),
    "nightly.yml drift": (READ, "nightly-${{ matrix.stack }}"),
    "endurance.yml endure": (READ, None),
}


def parsed(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads `on` as true.
    return {("on" if name is True else str(name)): value for name, value in yaml.safe_load(path.read_text()).items()}


def jobs() -> dict[str, dict[str, Any]]:
    return {f"{path.name} {name}": job for path in WORKFLOWS for name, job in parsed(path)["jobs"].items()}


def steps() -> list[tuple[str, dict[str, Any]]]:
    return [(name, step) for name, job in jobs().items() for step in job["steps"]]


# -- the workflows ----------------------------------------------------------------------------------------------------


def test_every_action_is_pinned_to_the_commit_of_the_tag_beside_it() -> None:
    used = [line for path in WORKFLOWS for line in path.read_text().splitlines() if re.search(r"\buses:", line)]
    assert used
    for line in used:
        match = re.fullmatch(r" +(?:- )?uses: (\S+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", line)
        assert match is not None, line
        assert PINS[match[1]] == (match[2], match[3])


def test_every_job_may_do_what_it_needs_and_has_the_keys_of_its_own_environment() -> None:
    assert all(parsed(path)["permissions"] == {} for path in WORKFLOWS)
    assert {name: (job["permissions"], job.get("environment")) for name, job in jobs().items()} == JOBS
    for name, job in jobs().items():
        assert ("secrets." in json.dumps(job)) == ("environment" in job), name
        assert "timeout-minutes" in job, name


def test_no_pull_request_runs_with_a_secret_or_a_token_that_writes() -> None:
    for path in WORKFLOWS:
        triggers = parsed(path)["on"]
        assert "pull_request_target" not in triggers
        if "pull_request" in triggers:
            text = path.read_text()
            assert not re.search(r"secrets\.|github\.token|write|environment:", text), path.name
    for name, step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, name


def test_code_of_a_fork_never_runs_where_there_are_keys() -> None:
    of_pull_requests = {name: job for name, job in jobs().items() if name.startswith("review-comment.yml")}
    preview, comment = (of_pull_requests[f"review-comment.yml {name}"] for name in ("preview", "comment"))
    assert "github.event.workflow_run.head_repository.full_name == github.repository" in preview["if"]
    # The job that can write runs the default branch's script.
    checkout = next(step for step in comment["steps"] if "checkout" in step.get("uses", ""))
    assert "ref" not in checkout["with"]
    assert "repository" not in checkout["with"]


def test_every_step_is_a_script_of_the_repository_without_text_of_the_event() -> None:
    for name, step in steps():
        if "run" in step:
            words = step["run"].removeprefix("python3 ").split()
            script = ROOT / words[0]
            assert words[0].startswith("script/ci/"), name
            assert script.is_file(), name
            assert os.access(script, os.X_OK) or script.suffix == ".py", name
            assert "${{" not in step["run"], name


def test_two_jobs_never_change_a_stack_at_the_same_time() -> None:
    concurrency = {name: job.get("concurrency") for name, job in jobs().items()}
    assert concurrency["up.yml test"] == "stack-test"
    assert concurrency["up.yml prod"] == "stack-prod"
    assert concurrency["nightly.yml drift"] == "stack-${{ matrix.stack }}"


# -- the comment ------------------------------------------------------------------------------------------------------

REPOSITORY, FORK = "owner/shop", "stranger/shop"
TOKEN = "ghs_secret"


@dataclass
class GitHub:
    """What GitHub has, and what was asked of it."""

    pulls: list[dict[str, Any]] = field(default_factory=list)
    comments: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refuses: int | None = None
    address: str = ""

    def answer(self, method: str, url: str, body: Any) -> tuple[int, Any]:
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        self.asked.append(f"{method} {path}")
        if self.refuses:
            return self.refuses, {"message": "no"}
        page, size = int(query.get("page", ["1"])[0]), int(query.get("per_page", ["30"])[0])
        if method == "GET" and path == f"/repos/{REPOSITORY}/pulls":
            (head,) = query["head"]
            found = [each for each in self.pulls if each["head"]["label"] == head and query["state"] == ["open"]]
            return 200, found[(page - 1) * size : page * size]
        if method == "GET" and (match := re.fullmatch(rf"/repos/{REPOSITORY}/issues/(\d+)/comments", path)):
            found = [each for each in self.comments if each["issue"] == int(match[1])]
            return 200, found[(page - 1) * size : page * size]
        if method == "POST" and (match := re.fullmatch(rf"/repos/{REPOSITORY}/issues/(\d+)/comments", path)):
            self.say("github-actions[bot]", body["body"], int(match[1]))
            return 201, self.comments[-1]
        if method == "PATCH" and (match := re.fullmatch(rf"/repos/{REPOSITORY}/issues/comments/(\d+)", path)):
            self.comments[int(match[1])]["body"] = body["body"]
            return 200, self.comments[int(match[1])]
        if method == "POST" and (match := re.fullmatch(rf"/repos/{REPOSITORY}/statuses/(\w+)", path)):
            self.statuses.append({"sha": match[1], **body})
            return 201, {}
        return 404, {"message": "Not Found"}

    def open(self, number: int, sha: str, source: str = REPOSITORY, branch: str = "new-price") -> None:
        label = f"{source.partition('/')[0]}:{branch}"
        self.pulls.append({"number": number, "head": {"sha": sha, "label": label, "repo": {"full_name": source}}})

    def say(self, who: str, body: str, number: int = 7) -> None:
        entry = {"id": len(self.comments), "issue": number, "user": {"login": who}, "body": body}
        self.comments.append(entry)


@pytest.fixture
def github() -> Iterator[GitHub]:
    there = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            given = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            assert self.headers["Authorization"] == f"Bearer {TOKEN}"
            status, found = there.answer(self.command, self.path, json.loads(given) if given else None)
            content = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = _do

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    there.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield there
    server.shutdown()
    thread.join()
    server.server_close()


def made(folder: Path, comment: str, code: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "comment.md").write_text(comment, encoding="utf-8")
    (folder / "code").write_text(f"{code}\n")
    return folder


def post(
    github: GitHub, tmp_path: Path, *folders: Path, sha: str = "a" * 40, source: str = REPOSITORY
) -> subprocess.CompletedProcess[str]:
    """Run the script as the workflow does, after a run for a commit."""
    run = {"head_sha": sha, "head_branch": "new-price", "head_repository": {"full_name": source}, "pull_requests": []}
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"workflow_run": run}))
    return subprocess.run(
        [sys.executable, str(ROOT / "script/ci/comment.py"), *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=60,
        env={
            "GITHUB_API_URL": github.address,
            "GITHUB_TOKEN": TOKEN,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_SERVER_URL": "https://github.test",
            "GITHUB_RUN_ID": "12",
        },
    )


def test_a_review_is_one_comment_that_the_next_one_updates(github: GitHub, tmp_path: Path) -> None:
    github.open(7, "a" * 40)
    first = post(github, tmp_path, made(tmp_path / "review", "<!-- pricing review shop/prod -->\n## one", 2))
    github.pulls[0]["head"]["sha"] = "b" * 40
    second = post(github, tmp_path, made(tmp_path / "review", "## two", 0), sha="b" * 40)
    assert (first.stdout, second.stdout) == ("#7: commented\n", "#7: comment updated\n"), first.stderr + second.stderr
    assert [comment["body"] for comment in github.comments] == [
        "<!-- pricing review -->\n## two\n\n<sub>bbbbbbbbbbbb · [run](https://github.test/owner/shop/actions/runs/12)</sub>"
    ]
    states = [(status["sha"][0], status["state"], status["context"]) for status in github.statuses]
    assert states == [("a", "failure", "pricing review"), ("b", "success", "pricing review")]


def test_nothing_is_said_where_nothing_changes_unless_something_did_before(github: GitHub, tmp_path: Path) -> None:
    github.open(7, "a" * 40)
    empty = made(tmp_path / "review", "")
    assert post(github, tmp_path, empty).stdout == "#7: nothing changes\n"
    assert github.comments == []
    post(github, tmp_path, made(tmp_path / "other", "## one"))
    post(github, tmp_path, empty)
    assert len(github.comments) == 1
    assert "**Nothing changes any more.**" in github.comments[0]["body"]


def test_a_fork_gets_its_own_pull_request_and_a_word_of_caution(github: GitHub, tmp_path: Path) -> None:
    # Somebody else's branch of the same name, and a comment that only looks like ours.
    github.open(6, "a" * 40)
    github.open(7, "a" * 40, source=FORK)
    github.say("stranger", "<!-- pricing review -->\nI am the review")
    review = made(tmp_path / "review", "## six: pull request 6")
    (review / "number").write_text("6")
    done = post(github, tmp_path, review, source=FORK)
    assert done.stdout == "#7: commented\n", done.stderr
    assert github.comments[0]["body"] == "<!-- pricing review -->\nI am the review"
    body = github.comments[1]["body"]
    assert body.startswith("<!-- pricing review -->\n_Made by the code of this pull request, which comes from a fork:")
    assert github.comments[1]["issue"] == 7


def test_a_pull_request_that_has_moved_on_is_left_alone(github: GitHub, tmp_path: Path) -> None:
    github.open(7, "b" * 40)
    done = post(github, tmp_path, made(tmp_path / "review", "## one"))
    assert (done.returncode, done.stdout) == (0, "no open pull request has this commit any more\n")
    assert github.comments == github.statuses == []


def test_the_preview_of_the_engine_is_preferred_and_a_review_that_is_missing_is_said(
    github: GitHub, tmp_path: Path
) -> None:
    github.open(7, "a" * 40)
    both = (made(tmp_path / "previewed", "## engine", 3), made(tmp_path / "evaluated", "## checkouts"))
    post(github, tmp_path, *both)
    assert "## engine" in github.comments[0]["body"]
    post(github, tmp_path, tmp_path / "nowhere", both[1])
    assert "## checkouts" in github.comments[0]["body"]
    post(github, tmp_path, tmp_path / "nowhere")
    assert "⛔ **The review could not be made.**" in github.comments[0]["body"]
    assert [status["state"] for status in github.statuses] == ["error", "success", "error"]


def test_the_comment_is_found_behind_many_others(github: GitHub, tmp_path: Path) -> None:
    github.open(7, "a" * 40)
    for number in range(205):
        github.say("somebody", f"comment {number}")
    github.say("github-actions[bot]", "<!-- pricing review -->\nold")
    assert post(github, tmp_path, made(tmp_path / "review", "new")).stdout == "#7: comment updated\n"
    assert len(github.comments) == 206


def test_a_comment_that_is_too_long_or_no_text_is_posted_as_far_as_it_goes(github: GitHub, tmp_path: Path) -> None:
    github.open(7, "a" * 40)
    review = made(tmp_path / "review", "line\n" * 30_000)
    (review / "code").write_bytes(b"\xff\xfe")
    post(github, tmp_path, review)
    body = github.comments[0]["body"]
    assert 60_000 < len(body) < 65_536
    assert "**The rest is left out: a comment cannot be longer.**" in body
    assert github.statuses[0]["state"] == "error"


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_refusal_of_github_is_one_line_without_the_token(github: GitHub, tmp_path: Path, status: int) -> None:
    github.refuses = status
    done = post(github, tmp_path, made(tmp_path / "review", "## one"))
    assert done.returncode == 3
    assert re.fullmatch(rf"comment: GitHub answers GET /repos/owner/shop/pulls\S* with {status}\n", done.stderr)
    assert TOKEN not in done.stdout + done.stderr
