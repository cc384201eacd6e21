"""The server of the live page: on 127.0.0.1 alone, and only for pages that were opened under a name of this machine.

A browser asks for any page's sake: of a site whose name suddenly means 127.0.0.1, its Host betrays it; of another
site that opens a socket, its Origin. Both are held against the names that are allowed before anything else happens.
"""

import errno
import logging
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bokeh.document import Document
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import bind_sockets
from bokeh.server.views.ws import WSHandler
from bokeh.util.token import generate_jwt_token, generate_session_id
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.web import ErrorHandler, RequestHandler

from experiments.dashboards.live.page import SCRIPT, Page, html
from experiments.dashboards.live.runs import LiveResults, results_below
from experiments.records.files import SuiteError
from experiments.reports.page import hashed

ADDRESS = "127.0.0.1"
LOCAL = (ADDRESS, "localhost", "::1")  # names of this machine, which nobody else can give it
PORTS = 20  # tried from the one asked for on
MOST = 20  # pages open at a time
FORGOTTEN = 1000  # milliseconds after it was closed
# Nothing that stands in a page is run but its own script; Bokeh makes functions of the table's templates.
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; "
    f"script-src 'self' 'unsafe-eval' {hashed(SCRIPT)}; style-src 'unsafe-inline'; img-src 'self' data:"
)


class PortError(SuiteError):
    """No free port."""


def serve(results: Path, port: int, open_browser: bool = False, allowed: Sequence[str] = ()) -> None:
    """Serve the live page of a results folder until interrupted, under LOCAL names and those `allowed`."""
    logging.getLogger("bokeh").setLevel(logging.ERROR)
    logging.getLogger("tornado.access").setLevel(logging.ERROR)  # who is refused learns it, the terminal need not
    live = results_below(results)
    server = started(live, port, allowed)
    try:
        live.look()
        live.look(live.latest())  # what is shown first is read before anybody waits for it
        address = f"http://{ADDRESS}:{server.port}"
        print(f"{results} is shown at {address}, until Ctrl-C", flush=True)
        if open_browser:
            webbrowser.open(address)
        server.io_loop.start()
    except KeyboardInterrupt:
        print("\nthe page is gone; runs go on", file=sys.stderr)
    server.stop()


def started(live: LiveResults, port: int, allowed: Sequence[str] = ()) -> BaseServer:
    """A server on the first free port from `port` on."""
    if not 0 < port <= 65535 - PORTS:
        raise PortError(f"--port {port}: choose one from 1024 to {65535 - PORTS}")
    for tried in range(port, port + PORTS):
        try:
            sockets, _ = bind_sockets(ADDRESS, tried)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise PortError(f"--port {tried}: {error.strerror}; choose another") from error
        guarded = Guarded(live, allowed)
        http = HTTPServer(guarded)
        http.add_sockets(sockets)
        server = BaseServer(IOLoop.current(), guarded, http)
        server.start()
        return server
    raise PortError(f"the ports {port} to {port + PORTS - 1} of {ADDRESS} are taken; choose another with --port")


class Guarded(BokehTornado):
    """Bokeh's application, of which three things can be had: the page, its socket, and the scripts both need."""

    def __init__(self, live: LiveResults, allowed: Sequence[str]) -> None:
        def document(doc: Document) -> None:
            Page(doc, live)

        super().__init__(
            {"/": document},
            use_index=False,
            unused_session_lifetime_milliseconds=FORGOTTEN,
            check_unused_sessions_milliseconds=FORGOTTEN,
        )
        self.live, self.named = live, frozenset(name.lower() for name in allowed)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        context = self.applications["/"]
        if name_of(request.headers.get("Host", "")) not in {*LOCAL, *self.named}:
            return self.get_handler_delegate(request, ErrorHandler, {"status_code": 403})
        if request.path == "/":
            return self.get_handler_delegate(request, Opening, {"live": self.live})
        if request.path == "/ws" and len([*context.sessions]) < MOST:
            given = {"application_context": context, "bokeh_websocket_path": "/ws", "named": self.named}
            return self.get_handler_delegate(request, Socket, given)
        if request.path.startswith("/static/js/"):
            return super().find_handler(request, **kwargs)
        return self.get_handler_delegate(request, ErrorHandler, {"status_code": 503 if request.path == "/ws" else 404})


class Opening(RequestHandler):
    """The empty page and what it opens its socket with. Only then are runs read and drawn for it."""

    def initialize(self, live: LiveResults) -> None:
        self.live = live

    def get(self) -> None:
        token = generate_jwt_token(generate_session_id(signed=False), signed=False)
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")
        self.write(html(self.live, token))


class Socket(WSHandler):
    """Open to pages of the very place that was asked, or of a name that is allowed, as a proxy's is."""

    def initialize(
        self, application_context: Any, bokeh_websocket_path: str, named: frozenset[str] = frozenset()
    ) -> None:
        self.named = named

    def check_origin(self, origin: str) -> bool:
        place = origin.partition("://")[2].lower()
        return place == self.request.host.lower() or name_of(place) in self.named


def name_of(place: str) -> str | None:
    """The name in `name:port`; None where there is none."""
    try:
        return urlsplit(f"//{place}").hostname
    except ValueError:
        return None
