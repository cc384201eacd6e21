"""A wandb server on loopback that keeps what it is sent: for tests of online logging and of workspaces.

It speaks the operations that our tests make wandb 0.31 and wandb-workspaces 0.4 use, and answers any other with an
error that names it, so that a newer client shows at once what it wants.
"""

import gzip
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ENTITY = "tester"  # who is logged in
Json = dict[str, Any]


@dataclass
class Run:
    """One run as the server knows it."""

    project: str
    state: str = "running"
    history: list[Json] = field(default_factory=list)
    summary: Json = field(default_factory=dict)

    def stream(self, sent: Json) -> None:
        """One part of the stream of a run's files: history and summary; and, at its end, the exit code."""
        for name, chunk in sent.get("files", {}).items():
            lines = [json.loads(line) for line in chunk["content"] if name.endswith((".jsonl", ".json"))]
            if name == "wandb-history.jsonl":
                self.history[chunk["offset"] :] = lines
            elif name == "wandb-summary.json":
                self.summary = lines[-1]
        if sent.get("complete"):
            self.state = "failed" if sent["exitcode"] else "finished"


class WandbServer(ThreadingHTTPServer):
    """`runs` by id, `views` (workspaces) by id, `operations` in the order they came.

    `refuse` is an HTTP status given to everything instead of an answer; `denied` are operations this account may not
    do, `file_stream` among them.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs: dict[str, Run] = {}
        self.views: dict[str, Json] = {}
        self.operations: list[str] = []
        self.refuse = 0
        self.denied: set[str] = set()
        self.lock = threading.Lock()

    def handle_error(self, *told: Any) -> None:
        """A client that has all it wants closes the line; say nothing of it."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*told)

    def graphql(self, asked: Json) -> Json:
        operation = re.findall(r"(?:query|mutation)\s+(\w+)", asked["query"])[0]
        self.operations.append(operation)
        if operation in self.denied:
            return {"errors": [{"message": "permission denied"}]}
        answer = getattr(self, f"on_{operation[0].lower()}{operation[1:]}", None)
        if answer is None:
            return {"errors": [{"message": f"the fake server does not know {operation}"}]}
        return {"data": answer(asked.get("variables") or {})}

    # ------------------------------------------------------------------------------------------------ accounts

    def on_viewer(self, given: Json) -> Json:
        user = {"id": "VXNlcjox", "entity": ENTITY, "username": ENTITY, "name": ENTITY, "email": "", "admin": False}
        nothing: Json = {"edges": []}
        return {"viewer": {**user, "flags": "{}", "deletedAt": None, "teams": nothing, "apiKeys": nothing}}

    # ---------------------------------------------------------------------------------------------------- runs

    def on_upsertBucket(self, given: Json) -> Json:
        new = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], Run(given["project"]))
        run.summary.update(json.loads(given.get("summaryMetrics") or "{}"))
        return {"upsertBucket": {"bucket": self.bucket(given["name"]), "inserted": new}}

    def on_runResumeStatus(self, given: Json) -> Json:
        bucket = self.bucket(given["name"]) if given["name"] in self.runs else None
        return {"model": {**self.project(given["project"]), "bucket": bucket}}

    def on_run(self, given: Json) -> Json:
        """By wandb.Api."""
        if given["name"] not in self.runs:
            return {"project": {"run": None}}
        run, unasked = self.runs[given["name"]], {"user": {}, "historyKeys": {}, "projectId": 1}
        return {"project": {"run": {**self.bucket(given["name"]), **unasked, "state": run.state}}}

    def on_createRunFiles(self, given: Json) -> Json:
        files = [{"name": name, "uploadUrl": f"{self.url}/run/{given['run']}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def bucket(self, name: str) -> Json:
        run = self.runs[name]
        tail = json.dumps([json.dumps(line) for line in run.history[-1:]])
        empty: Json = {"description": None, "sweepName": None, "notes": None, "tags": [], "config": "{}"}
        empty |= {"eventsLineCount": 0, "eventsTail": "[]", "logLineCount": 0, "wandbConfig": '{"t": 1}'}
        kept = {"historyLineCount": len(run.history), "historyTail": tail, "summaryMetrics": json.dumps(run.summary)}
        return {**empty, **kept, "id": name, "name": name, "displayName": name, "project": self.project(run.project)}

    # --------------------------------------------------------------------------------------------------- views

    def on_upsertView2(self, given: Json) -> Json:
        """A view with an id is changed, one without is new: two of one name are two, so a test sees them."""
        new = not given.get("id")
        view = {**given, "id": given["id"] if not new else f"Vmlldzo{len(self.views) + 1}"}
        if view["id"] not in self.views and not new:
            raise KeyError(view["id"])
        self.views[view["id"]] = self.views.get(view["id"], {}) | view
        told = {**view, "project": self.project(given["projectName"]) | {"entityName": ENTITY}}
        return {"upsertView": {"view": told, "inserted": new}}

    def on_view(self, given: Json) -> Json:
        views = [view for view in self.views.values() if view["name"] == given["viewName"]]
        return {"project": {"allViews": {"edges": [{"node": view} for view in views]}}}

    def project(self, name: str) -> Json:
        return {"id": "UHJvamVjdDox", "internalId": "MQ==", "name": name, "entity": {"id": "e", "name": ENTITY}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.server.refuse:
            self.answer({"errors": [{"message": "refused"}]}, self.server.refuse)
            return
        if self.path.endswith("/file_stream") and "file_stream" in self.server.denied:
            self.answer({}, 403)
            return
        with self.server.lock:
            self.answer(self.result(body))

    do_PUT = do_GET = do_POST

    def result(self, body: bytes) -> Json:
        place = self.path.split("/")
        if self.path == "/graphql":
            return self.server.graphql(json.loads(body))
        if place[-1] == "file_stream":
            self.server.runs[place[-2]].stream(json.loads(body))
        return {}

    def answer(self, result: Json, status: int = 200) -> None:
        body = json.dumps(result).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *told: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[WandbServer]:
    with WandbServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def environment(server: WandbServer, folder: Path) -> dict[str, str]:
    """What makes wandb talk to this server, and to no other; nothing is kept outside the folder."""
    folders = {f"WANDB_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "CACHE", "DATA")}
    plain = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "WANDB_ERROR_REPORTING": "false"}
    return {**folders, **plain, "WANDB_SILENT": "true"}


@pytest.fixture
def wandb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with serving() as server:
        for name in [name for name in os.environ if name.startswith("WANDB")]:
            monkeypatch.delenv(name)
        for name, value in environment(server, tmp_path / "wandb-home").items():
            monkeypatch.setenv(name, value)
        forget()
        yield server
        forget()


def forget() -> None:
    """wandb keeps the settings that it finds first, and a process that works by them."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()
