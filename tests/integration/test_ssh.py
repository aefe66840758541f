"""A real ``ssh`` reaches a real ``sshd`` through ``dwcloud connect``."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater

from dwcloud.cli.demo_cloud import LOOPBACK, free_port
from tests.integration.cloud import (
    DWCLOUD,
    READY_TIMEOUT,
    CloudTestCase,
    Finished,
)
from tests.packaging.readme import commands

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
        for _ in range(int(READY_TIMEOUT / 0.1)):
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
        program = self.start_program(
            [
                str(shutil.which("ssh")),
                "-o",
                f"ProxyCommand={proxy}",
                *self.own_options(),
                f"{_user()}@home",
                *command,
            ],
            data,
        )
        return await program.finished

    def own_options(self) -> list[str]:
        """What keeps ssh from the files of whoever runs the test."""
        options = {
            "IdentityFile": self.directory / "user_key",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": self.directory / "known_hosts",
            "BatchMode": "yes",
        }
        return ["-F", "none", *(f"-o{name}={value}" for name, value in options.items())]

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

    async def test_readme(self) -> None:
        """The command of the README, with its placeholders replaced."""
        programs = self.directory / "bin"
        programs.mkdir()
        (programs / "dwcloud").write_text(f'#!/bin/sh\nexec {shlex.join(DWCLOUD)} "$@"')
        (programs / "dwcloud").chmod(0o755)
        self.environment["PATH"] = f"{programs}:{self.environment['PATH']}"
        self.environment["DWCLOUD_MEDIATOR"] = self.mediator
        command = commands()["ssh"]
        for placeholder, value in (
            (r"\bgarage\b", self.peer),
            (r"\buser@home$", f"{shlex.join(self.own_options())} {_user()}@home"),
        ):
            command, count = re.subn(placeholder, value, command)
            self.assertEqual(count, 1, command)
        data = os.urandom(100_000)
        program = self.start_program(["bash", "-c", f"{command} 'cat; exit 7'"], data)
        result = await program.finished
        self.assertEqual(result.code, 7, result.err)
        self.assertEqual(result.out, data)


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


class _Closer(Protocol):
    """Connects, and that is all."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
