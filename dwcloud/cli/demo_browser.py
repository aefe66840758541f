"""The cloud of ``dwcloud demo --camera``: a camera that any browser can look at."""

from __future__ import annotations

import datetime
import json
import secrets
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dwcloud.cli.child_processes import ChildProcess
from dwcloud.cli.demo_cloud import (
    DWCLOUD,
    LOOPBACK,
    READY_TIMEOUT,
    SERVICE,
    TWISTD,
    DemoCloud,
    free_ports,
)
from dwcloud.cli.failures import CommandFailed
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.protocol.names import PeerName

__all__ = ["ACCOUNT", "DOMAIN", "CameraCloud", "write_certificate"]

ACCOUNT = "demo"
DOMAIN = "relay.localhost"
"""Browsers look for names below localhost on their own machine (RFC 6761, 6.3)."""

_SYSTEM = "camera"
_CAMERA = [sys.executable, "-m", "dwcloud.cli.demo_camera"]


class CameraCloud(DemoCloud):
    """Mediator with accounts, relay that lets browsers in, camera, and its server.

    :ivar address: of the camera's page, for a browser on this machine.
    :ivar portal: where an account is made or used.
    :ivar password: of :data:`ACCOUNT`.
    """

    address: str
    portal: str

    async def start(self) -> None:
        """Start all programs, make the account, and let browsers in.

        :raises CommandFailed: if one of them does not come up.
        """
        self.password = secrets.token_urlsafe(12)
        self._directory.chmod(0o700)
        (self._directory / "password").write_text(f"{self.password}\n")
        port, self._relay_port, web_port = free_ports(3)
        # It loads while the mediator does.
        camera = self._run("the camera", _CAMERA, [])
        await self._start_mediator_for(port, web_port)
        await self._start_gateway(web_port)
        await self._account("register", ACCOUNT, "--password-file", "password")
        at = await camera.wait_for(
            rf"camera at http://{LOOPBACK}:(\d+)/", READY_TIMEOUT
        )
        await self._serve(int(at[1]))
        await self._command("the switch", "system", "share", _SYSTEM, "--web")
        self.address = f"https://{self.peer.system}.{DOMAIN}:{web_port}/"
        self._console.message(f"camera    {self.address}")

    @property
    def _at_home(self) -> dict[str, str]:
        """What keeps the commands from the credentials of who starts the demo."""
        return {
            "XDG_DATA_HOME": str(self._directory),
            "XDG_STATE_HOME": str(self._directory / "state"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        }

    async def _start_mediator_for(self, port: int, web_port: int) -> None:
        child = self._run(
            "the mediator",
            TWISTD,
            [
                "-n",
                "mediator",
                *("--listen", f"tcp:{port}:interface={LOOPBACK}"),
                *("--udp", f"{port}:interface={LOOPBACK}"),
                *("--relay", f"http://{LOOPBACK}:{self._relay_port}"),
                *("--accounts", str(self._directory / "accounts")),
                *("--web-gateway", f"{DOMAIN}:{web_port}"),
            ],
        )
        await child.wait_for(rf"on udp \S+:{port}\b", READY_TIMEOUT)
        self.mediator = MediatorAddress(LOOPBACK, port)
        self.portal = f"https://{LOOPBACK}:{port}"
        self._console.message(f"mediator  {self.mediator}, portal {self.portal}/")

    async def _start_gateway(self, web_port: int) -> None:
        key, certificate = write_certificate(self._directory, DOMAIN)
        child = self._run(
            "the relay",
            TWISTD,
            [
                "-n",
                "relay",
                *("--listen", f"tcp:{self._relay_port}:interface={LOOPBACK}"),
                *("--cloud-key", str(self._directory / "accounts" / "cloud.pub")),
                *("--portal", self.portal),
                *("--web-domain", DOMAIN),
                "--web-endpoint",
                f"ssl:{web_port}:privateKey={key}:certKey={certificate}"
                f":interface={LOOPBACK}",
            ],
        )
        await child.wait_for(r"relay for browsers listening", READY_TIMEOUT)
        self._console.message(f"relay     https://{DOMAIN}:{web_port}/")

    async def _account(self, *words: str) -> None:
        await self._command("the account", "account", *words)

    async def _command(self, name: str, *words: str) -> ChildProcess:
        """Run a command to its end.

        :raises CommandFailed: if it fails.
        """
        child = self._run(
            name, DWCLOUD, [*words, "--mediator", str(self.mediator)], **self._at_home
        )
        await child.ended
        # It is no program that has to go on.
        self._programs.pop()
        if child.exit_code != 0:
            raise CommandFailed(
                f"dwcloud {' '.join(words[:2])} failed with exit code {child.exit_code}"
            )
        return child

    async def _serve(self, port: int) -> None:
        child = self._run(
            "dwcloud serve",
            DWCLOUD,
            [
                "serve",
                f"{SERVICE}={LOOPBACK}:{port}",
                *("--name", _SYSTEM),
                *("--mediator", str(self.mediator)),
                *("--interface", LOOPBACK),
                "--json",
            ],
            **self._at_home,
        )
        online = await child.wait_for(r'^\{"event": "online".*', READY_TIMEOUT)
        self.peer = PeerName.parse(json.loads(online[0])["peer"])
        self._console.message(f"server    {self.peer}")


def write_certificate(directory: Path, domain: str) -> tuple[Path, Path]:
    """Make a key and a certificate of its own making, for a domain and all below it.

    :return: the files of both.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, domain)])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    names = [x509.DNSName(domain), x509.DNSName(f"*.{domain}")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName(names), False)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = directory / "web.key", directory / "web.crt"
    key_file.touch(0o600)
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file
