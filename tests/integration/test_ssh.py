"""A real ``ssh`` reaches a real ``sshd`` through ``dwcloud connect``."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
from pathlib import Path

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater

from dwcloud.cli.demo_cloud import LOOPBACK, free_port
from tests.integration.cloud import DWCLOUD, CloudTestCase, Finished

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class SSHTests(CloudTestCase):
    """``ssh -o ProxyCommand='dwcloud connect ...'``."""

    if SSHD is None or shutil.which("ssh") is None:
        skip = "OpenSSH is not installed"

    async def setUp(self) -> None:  # type: ignore[override]
        """Run sshd for this user alone, and publish it."""
        super().setUp()
        self.port = free_port()
        self._make_keys()
        await self._start_sshd()
        self.mediator = self.start_cloud()
        self.peer, _ = await self.serve(self.mediator, f"ssh={LOOPBACK}:{self.port}")

    def _make_keys(self) -> None:
        for name in ("host_key", "user_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name],
                cwd=self.directory,
                check=True,
            )
        key = (self.directory / "user_key.pub").read_text()
        (self.directory / "authorized_keys").write_text(key)

    async def _start_sshd(self) -> None:
        assert SSHD is not None
        if os.geteuid() == 0:
            # sshd of the system would have this made when it starts.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        options = {
            "Port": self.port,
            "ListenAddress": LOOPBACK,
            "HostKey": self.directory / "host_key",
            "AuthorizedKeysFile": self.directory / "authorized_keys",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "yes",
        }
        words = [f"-o{name}={value}" for name, value in options.items()]
        self.sshd = self.start_child(
            [SSHD, "-D", "-e", "-f", "/dev/null", *words], "sshd"
        )
        for _ in range(100):
            self.sshd.check()
            try:
                await connectProtocol(
                    TCP4ClientEndpoint(self.reactor, LOOPBACK, self.port), _Closer()
                )
            except ConnectError:
                await deferLater(self.reactor, 0.1)
            else:
                return
        self.fail("sshd does not listen")

    async def ssh(self, path: str, *command: str, data: bytes = b"") -> Finished:
        """Run a command on the server over one kind of path."""
        proxy = shlex.join(
            [
                *DWCLOUD,
                "connect",
                self.peer,
                "ssh",
                "--mediator",
                self.mediator,
                "--interface",
                LOOPBACK,
                "--path",
                path,
            ]
        )
        known_hosts = self.directory / "known_hosts"
        program = self.start_program(
            [
                str(shutil.which("ssh")),
                "-F",
                "none",
                "-o",
                f"ProxyCommand={proxy}",
                "-o",
                f"IdentityFile={self.directory / 'user_key'}",
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "StrictHostKeyChecking=accept-new",
                "-o",
                f"UserKnownHostsFile={known_hosts}",
                "-o",
                "BatchMode=yes",
                f"{pwd.getpwuid(os.geteuid()).pw_name}@home",
                *command,
            ],
            data,
        )
        return await program.finished

    async def check_path(self, path: str) -> None:
        """A command runs, gets its input and its exit code comes back."""
        data = os.urandom(2_000_000)
        result = await self.ssh(path, "cat; exit 7", data=data)
        self.assertEqual(result.code, 7, result.err)
        self.assertEqual(result.out, data)

    async def test_tcp(self) -> None:
        """Over direct TCP."""
        await self.check_path("tcp")

    async def test_udp(self) -> None:
        """Over a punched hole."""
        await self.check_path("udp")

    async def test_relay(self) -> None:
        """Over the relay."""
        await self.check_path("relay")


class _Closer(Protocol):
    """Connects, and that is all."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
