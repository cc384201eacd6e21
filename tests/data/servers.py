"""A server on this machine that answers each request as it is told to."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request: what is asked for, and the ways to answer it."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def log_message(self, *_: object) -> None:
        pass

    @property
    def start(self) -> int:
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    def begin(self, status: int, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answers, self.closing = list(answers), Event()
        self.asked: list[tuple[str, str, str]] = []  # of each request: path, Range, Authorization

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


@contextmanager
def serving(*answers: Answer) -> Iterator[Server]:
    """A server that gives these answers in turn, the last one again and again."""
    with Server(*answers) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


def sends(
    content: bytes, *, ranges: bool = True, first: int | None = None, pause: float = 0, stall: bool = False
) -> Answer:
    """The content from where it is asked for; only the `first` bytes, then the end or, with `stall`, nothing."""

    def answer(request: Request) -> None:
        start = request.start if ranges else 0
        if start and start >= len(content):
            return request.begin(416, 0)
        given = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        request.begin(206 if start else 200, len(content) - start, **given)
        for position in range(start, len(content) if first is None else start + first):
            request.wfile.write(content[position : position + 1])
            time.sleep(pause)
        if stall:
            request.server.closing.wait(10)

    return answer


def says(status: int, body: bytes = b"", length: int | None = None, **headers: str) -> Answer:
    def answer(request: Request) -> None:
        request.begin(status, len(body) if length is None else length, **headers)
        request.wfile.write(body)

    return answer
