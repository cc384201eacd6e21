"""The server of the live page, on 127.0.0.1 alone."""

import errno
import logging
import signal
import sys
import webbrowser
from pathlib import Path
from types import FrameType

from bokeh.document import Document
from bokeh.server.server import Server

from experiments.dashboards.live.page import Page
from experiments.dashboards.live.runs import LiveResults, results_below
from experiments.records.files import SuiteError

ADDRESS = "127.0.0.1"
PORTS = 20  # tried from the one asked for on


class PortError(SuiteError):
    """No free port."""


def serve(results: Path, port: int, open_browser: bool = False) -> None:
    """Serve the live page of a results folder until interrupted."""
    logging.getLogger("bokeh").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, stop)
    live = results_below(results)
    server = started(live, port)
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


def stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def started(live: LiveResults, port: int) -> Server:
    """A server on the first free port from `port` on; pages from anywhere else may not talk to it."""

    def document(doc: Document) -> None:
        Page(doc, live)

    if not 0 < port <= 65535 - PORTS:
        raise PortError(f"--port {port}: choose one from 1024 to {65535 - PORTS}")
    for tried in range(port, port + PORTS):
        origins = [f"{name}:{tried}" for name in (ADDRESS, "localhost")]
        try:
            server = Server({"/": document}, port=tried, address=ADDRESS, allow_websocket_origin=origins)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise PortError(f"--port {tried}: {error.strerror}; choose another") from error
        server.start()
        return server
    raise PortError(f"the ports {port} to {port + PORTS - 1} of {ADDRESS} are taken; choose another with --port")
