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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ENTITY = "tester"  # who is logged in
PAGE = 2  # runs it lists at a time, however many are asked for
Json = dict[str, Any]


@dataclass
class Run:
    """One run as the server knows it: where it is, what it was opened with, and what came of it."""

    place: tuple[str, str, str]  # entity, project, id
    opened: Json = field(default_factory=dict)
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

    def told(self) -> Json:
        """What a client is told of it."""
        entity, project, name = self.place
        tail = json.dumps([json.dumps(line) for line in self.history[-1:]])
        lines = {"historyLineCount": len(self.history), "historyTail": tail, "eventsLineCount": 0, "eventsTail": "[]"}
        told: Json = {"id": name, "name": name, "displayName": name, "project": project_of(entity, project), "tags": []}
        told |= {"config": "{}", "summaryMetrics": json.dumps(self.summary), "wandbConfig": '{"t": 1}', "user": {}}
        return told | lines | {"logLineCount": 0, "state": self.state, "projectId": 1, "historyKeys": {}}


class WandbServer(ThreadingHTTPServer):
    """`runs` by entity, project and id, `views` (workspaces) by id, `operations` in the order they came.

    `fault` is asked before each answer with the operation, `file_stream` among them, and the id of the run that it is
    about, if any. It gives the HTTP status of a refusal, whose `reason` is told, or 0; or takes its time.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.entity = ENTITY
        self.runs: dict[tuple[str, str, str], Run] = {}
        self.views: dict[str, Json] = {}
        self.operations: list[str] = []
        self.fault: Callable[[str, str], int] = lambda operation, run: 0
        self.reason = "refused"

    def handle_error(self, *told: Any) -> None:
        """A client that has all it wants closes the line; say nothing of it."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*told)

    def run(self, name: str) -> Run:
        (found,) = (run for place, run in self.runs.items() if place[2] == name)
        return found

    # ---------------------------------------------------------------------------------------------------- runs

    def on_viewer(self, given: Json) -> Json:
        user = {"id": "VXNlcjox", "entity": self.entity, "username": self.entity, "name": "", "email": ""}
        nothing: Json = {"edges": []}
        told = {"admin": False, "flags": "{}", "deletedAt": None, "teams": nothing, "apiKeys": nothing}
        return {"viewer": user | told}

    on_getDefaultEntity = on_viewer

    def on_upsertBucket(self, given: Json) -> Json:
        place = given["entity"] or self.entity, given["project"], given["name"]
        new = place not in self.runs
        run = self.runs.setdefault(place, Run(place))
        run.opened |= {key: value for key, value in given.items() if value is not None}
        return {"upsertBucket": {"bucket": run.told(), "inserted": new}}

    def on_runResumeStatus(self, given: Json) -> Json:
        place = given["entity"] or self.entity, given["project"], given["name"]
        bucket = self.runs[place].told() if place in self.runs else None
        return {"model": {**project_of(*place[:2]), "bucket": bucket}}

    def on_runs(self, given: Json) -> Json:
        """Those of a project, a page at a time; no project that has none."""
        project = given["entity"], given["project"]
        runs = [run for place, run in self.runs.items() if place[:2] == project]
        start = int(given.get("cursor") or 0)
        shown = list(enumerate(runs, start=1))[start : start + PAGE]
        page: Json = {"edges": [{"node": run.told(), "cursor": str(place)} for place, run in shown]}
        page |= {"pageInfo": {"endCursor": None, "hasNextPage": start + PAGE < len(runs)}}
        told = {"internalId": "1", "runCount": len(runs), "readOnly": False, "runs": page}
        return {"project": told if runs else None}

    def on_createRunFiles(self, given: Json) -> Json:
        files = [{"name": name, "uploadUrl": f"{self.url}/run/{given['run']}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    # --------------------------------------------------------------------------------------------------- views

    def on_upsertView2(self, given: Json) -> Json:
        """A view with an id is changed, one without is new: two of one name are two, so a test sees them."""
        new = not given.get("id")
        view = {**given, "id": given["id"] if not new else f"Vmlldzo{len(self.views) + 1}"}
        if view["id"] not in self.views and not new:
            raise KeyError(view["id"])
        self.views[view["id"]] = self.views.get(view["id"], {}) | view
        told = {**view, "project": project_of(self.entity, given["projectName"]) | {"entityName": self.entity}}
        return {"upsertView": {"view": told, "inserted": new}}

    def on_view(self, given: Json) -> Json:
        views = [view for view in self.views.values() if view["name"] == given["viewName"]]
        return {"project": {"allViews": {"edges": [{"node": view} for view in views]}}}


def project_of(entity: str, name: str) -> Json:
    return {"id": "UHJvamVjdDox", "internalId": "MQ==", "name": name, "entity": {"id": "e", "name": entity}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        asked = json.loads(body) if self.path.startswith("/graphql") or self.path.endswith("/file_stream") else {}
        given, run = asked.get("variables") or {}, self.path.split("/")[-2]
        operation = self.path.split("/")[-1]
        if operation == "graphql":
            operation, run = re.findall(r"(?:query|mutation)\s+(\w+)", asked["query"])[0], str(given.get("name", ""))
            operation = operation[0].lower() + operation[1:]
        if status := self.server.fault(operation, run):
            return self.answer({"errors": [{"message": self.server.reason}]}, status)
        with self.lock:
            self.server.operations.append(operation)
            self.answer(self.result(operation, run, asked if operation == "file_stream" else given))

    do_PUT = do_GET = do_POST

    def result(self, operation: str, run: str, given: Json) -> Json:
        if operation == "file_stream":
            self.server.runs[self.place()].stream(given)
        if not self.path.startswith("/graphql"):
            return {}
        answer = getattr(self.server, f"on_{operation}", None)
        return {"data": answer(given)} if answer else {"errors": [{"message": f"the fake server knows no {operation}"}]}

    def place(self) -> tuple[str, str, str]:
        """Of the run whose stream this is: /files/<entity>/<project>/<id>/file_stream."""
        entity, project, run = self.path.split("/")[-4:-1]
        return entity, project, run

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
