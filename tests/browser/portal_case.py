"""A real cloud with accounts, the commands of its people, and a browser."""

from __future__ import annotations

import atexit
import base64
import contextlib
import http.client
import http.server
import json
import os
import shutil
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.binding import binding_text
from dwcloud.cli.demo_cloud import LOOPBACK, free_ports
from dwcloud.net.identity import SystemIdentity
from tests.browser.chromium import WAIT, Browser

__all__ = ["PASSWORD", "Cloud", "Person", "PortalCase", "Running"]

PASSWORD = "kettle orbit 7"
_TWISTD = "from twisted.scripts.twistd import run; run()"


class _Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets."""

    def handle(self) -> None:
        # A client that is stopped breaks its connection off.
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65536):
                self.request.sendall(data)


class Running:
    """A program that runs until it is stopped.

    :param log: the file that gets what it prints.
    """

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=log.parent,
                env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, text: str) -> None:
        """Wait until it has printed this."""
        deadline = time.monotonic() + WAIT
        while text not in self._log.read_text(errors="replace"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no {text!r} in: {self._log.read_text()}")
            time.sleep(0.05)

    def send(self, data: bytes) -> None:
        """Give it input."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def stop(self) -> None:
        """End it, and wait until it has."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.communicate(timeout=WAIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


class Cloud:
    """Mediator and relay as processes, and a browser.

    :ivar address: of the mediator, ``host:port``.
    :ivar web_port: for browsers at the relay, if it is to let them in.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="dwcloud-browser-"))
        self._port, self._relay_port, self.web_port = free_ports(3)
        self.address = f"{LOOPBACK}:{self._port}"
        self._services: dict[str, Running] = {}
        self.browser = Browser(f"https://{self.address}", *self.browser_arguments())
        try:
            self.start_mediator()
            self._start(
                "relay",
                f"--listen=tcp:{self._relay_port}:interface={LOOPBACK}",
                f"--cloud-key={self.directory / 'accounts' / 'cloud.pub'}",
                *self.relay_options(),
            ).wait_for("relay listening on")
        except BaseException:
            self.stop()
            raise

    def start_mediator(self) -> None:
        """Start the mediator, perhaps once more."""
        (self.directory / "mediator.log").unlink(missing_ok=True)
        self._start(
            "mediator",
            f"--listen=tcp:{self._port}:interface={LOOPBACK}",
            f"--udp={self._port}:interface={LOOPBACK}",
            f"--relay=http://{LOOPBACK}:{self._relay_port}",
            f"--accounts={self.directory / 'accounts'}",
            *self.mediator_options(),
        ).wait_for("mediator listens on udp")

    def mediator_options(self) -> list[str]:
        """Further options of the mediator."""
        return []

    def relay_options(self) -> list[str]:
        """Further options of the relay."""
        return []

    def browser_arguments(self) -> list[str]:
        """Arguments of the browser's program."""
        return []

    def stop_mediator(self) -> None:
        """Stop the mediator."""
        self._services.pop("mediator").stop()

    def _start(self, name: str, *options: str) -> Running:
        pid_file = self.directory / f"{name}.pid"
        command = [sys.executable, "-c", _TWISTD, "-n", f"--pidfile={pid_file}", name]
        running = Running([*command, *options], self.directory / f"{name}.log")
        self._services[name] = running
        return running

    def stop(self) -> None:
        """End everything."""
        self.browser.quit()
        for running in self._services.values():
            running.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


_clouds: dict[str, Cloud] = {}
"""The cloud of the tests that are running; trial knows no fixtures of classes."""


def _stop_clouds() -> None:
    while _clouds:
        _clouds.popitem()[1].stop()


atexit.register(_stop_clouds)


class PortalCase(SynchronousTestCase):
    """One cloud and one browser for all tests of a class, or of several.

    Each has people of its own: a cloud takes ten registrations at once, not more.

    :cvar at: the name of the cloud.
    :cvar make_cloud: makes it.
    :ivar mediator: ``host:port``.
    """

    at = ""
    make_cloud: type[Cloud] = Cloud

    def setUp(self) -> None:
        """Be in a browser that was never here."""
        if self.at not in _clouds:
            _stop_clouds()
            _clouds[self.at] = self.make_cloud()
        self.cloud = _clouds[self.at]
        self.browser = self.cloud.browser
        self.mediator = self.cloud.address
        self.browser.resize(1280, 900)
        self.browser.begin()
        self.browser.complaints()
        self.addCleanup(self.check_complaints)

    def check_complaints(self) -> None:
        """Whatever was done, the page broke no rule and raised no error."""
        self.assertEqual(self.browser.complaints(), [])

    def echo(self) -> int:
        """Start a service that sends everything back; return its port."""
        return self._listen(_Echo)

    def site(self, page: str) -> str:
        """Start another web site of one page; return its address."""

        class Site(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page.encode())

            def log_message(self, *arguments: object) -> None:
                """The browser knows what it asked for."""

        return f"http://{LOOPBACK}:{self._listen(Site)}/"

    def _listen(self, protocol: type[socketserver.BaseRequestHandler]) -> int:
        server = socketserver.ThreadingTCPServer((LOOPBACK, 0), protocol)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return int(server.server_address[1])

    def person(self, name: str) -> Person:
        """Register somebody."""
        ask(self.mediator, "POST", "/accounts", {"name": name, "password": PASSWORD})
        return Person(self, name)

    def sign_in(self, person: Person) -> None:
        """Sign in by the page."""
        self.browser.open("#/sign-in")
        self.browser.fill(name=person.name, password=PASSWORD)
        self.browser.click("button", "Sign in")
        self.browser.find("h1", "Systems")
        self.browser.see("Live")


@attrs.define(eq=False)
class Person:
    """Somebody with an account, who may have machines.

    :ivar name: of the account.
    """

    case: PortalCase
    name: str
    _token: str = ""
    _signed_in: bool = False

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the API, in another program than the browser."""
        if not self._token:
            credentials = {"name": self.name, "password": PASSWORD}
            signed_in = ask(self.case.mediator, "POST", "/sessions", credentials)
            self._token = signed_in["access_token"]
        return ask(self.case.mediator, method, path, body, token=self._token)

    def bind(self, name: str) -> str:
        """Bind a system without any server; return its identifier."""
        system = SystemIdentity.generate()
        nonce = self.ask("POST", "/systems/challenge")["nonce"]
        signed = binding_text(
            base64.b64decode(nonce),
            uuid.UUID(self.ask("GET", "/account")["account"]["id"]),
            base64.b64decode(self.ask("GET", "/cloud")["cloud_key"]),
        )
        key: Any = system._key
        signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
        certificate = system.certificate.public_bytes(Encoding.DER)
        bound = {
            "name": name,
            "certificate": base64.b64encode(certificate).decode(),
            "nonce": nonce,
            "signature": base64.b64encode(signature).decode(),
        }
        return str(self.ask("POST", "/systems", bound)["system"]["id"])

    def command(self, *words: str, machine: str = "laptop") -> Running:
        """Start a command on one of the machines, where that person is signed in."""
        home = self.case.cloud.directory / f"{self.name}-{machine}"
        home.mkdir(exist_ok=True)
        environment = {
            "XDG_DATA_HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "DWCLOUD_MEDIATOR": self.case.mediator,
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        }
        if not (home / "signed-in").exists():
            (home / "signed-in").touch()
            login = ("account", "login", self.name, "--password-file", "-")
            subprocess.run(
                [*_DWCLOUD, *login],
                env={**os.environ, **environment},
                input=f"{PASSWORD}\n".encode(),
                check=True,
                capture_output=True,
                timeout=WAIT,
            )
        log = home / f"{words[0]}-{time.monotonic_ns()}.log"
        running = Running([*_DWCLOUD, *words], log, **environment)
        self.case.addCleanup(running.stop)
        return running

    def serve(self, name: str, *services: str, wait: bool = True) -> Running:
        """Serve as a system of this name, which is bound on first use."""
        running = self.command(
            *("serve", *services, "--name", name, "--interface", LOOPBACK, "--json"),
            machine=name,
        )
        running.wait_for('"event": "online"')
        return running


_DWCLOUD = [sys.executable, "-m", "dwcloud.cli.main"]


def ask(
    address: str, method: str, path: str, body: Any = None, *, token: str = ""
) -> Any:
    """Ask the API; return the answer, which must not be a refusal."""
    # Reading the system's certificate authorities takes longer than most requests.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address, timeout=WAIT, context=context)
    fields = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        fields["Authorization"] = f"Bearer {token}"
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, f"/api/v1{path}", data, fields)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status >= 400:
        raise AssertionError(f"{method} {path}: {answer.status} {content!r}")
    return json.loads(content) if content else None
