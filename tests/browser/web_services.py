"""Web services of servers that a browser is to see: a camera, and an echo."""

from __future__ import annotations

import http.server
import re
import socketserver
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Request,
    TextMessage,
)

from dwcloud.cli.demo_cloud import LOOPBACK
from tests.browser.chromium import WAIT
from tests.browser.portal_case import Running

__all__ = ["CameraProgram", "EchoSite"]


class CameraProgram:
    """The demonstration's camera as a program of its own.

    :ivar port: of its web server.
    """

    def __init__(self, directory: Path) -> None:
        log = directory / f"camera-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "dwcloud.cli.demo_camera"]
        self._running = Running(command, log)
        self._running.wait_for("camera at http://")
        found = re.search(r":(\d+)/", log.read_text())
        assert found is not None
        self.port = int(found[1])

    def status(self) -> str:
        """What the camera itself tells, asked without any relay."""
        address = f"http://{LOOPBACK}:{self.port}/status.json"
        with urllib.request.urlopen(address, timeout=WAIT) as answer:
            text: str = answer.read().decode()
        return text

    def stop(self) -> None:
        """End it."""
        self._running.stop()


class _Handler(http.server.BaseHTTPRequestHandler):
    """A page, uploads, and a WebSocket that sends back what it gets."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        """Show a page, or switch to the WebSocket."""
        self.server.cookies.append(self.headers.get("Cookie", ""))
        if self.headers.get("Upgrade") == "websocket":
            self._echo()
            return
        self._answer(b"<!DOCTYPE html><title>Echo</title><h1>The echo site</h1>")

    def do_POST(self) -> None:
        """Tell how much was uploaded."""
        size = int(self.headers["Content-Length"])
        total = sum(self.rfile.read(size))
        self._answer(b"%d bytes, sum %d" % (size, total))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _echo(self) -> None:
        self.close_connection = True
        connection = WSConnection(ConnectionType.SERVER)
        head = f"{self.command} {self.path} HTTP/1.1\r\n{self.headers}"
        head = head.replace("\r\n", "\n").replace("\n", "\r\n")
        connection.receive_data(head.encode("latin-1"))
        while True:
            for event in connection.events():
                if isinstance(event, Request):
                    reply: Any = AcceptConnection()
                elif isinstance(event, (TextMessage, BytesMessage)):
                    reply = event
                elif isinstance(event, CloseConnection):
                    self.wfile.write(connection.send(event.response()))
                    return
                else:
                    continue
                self.wfile.write(connection.send(reply))
            data = self.connection.recv(65536)
            if not data:
                return
            connection.receive_data(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class EchoSite(socketserver.ThreadingTCPServer):
    """Serves :class:`_Handler` on a port of loopback.

    :ivar cookies: the field ``Cookie`` of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.cookies: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent of connections that are broken off, as the gateway does."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def stop(self) -> None:
        """End it."""
        self.shutdown()
        self.server_close()
