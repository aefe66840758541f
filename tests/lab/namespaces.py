"""Network namespaces: made, configured, used and removed."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence

from tests.lab.processes import LabError, wait_for
from tests.requirements import require

__all__ = ["Namespace", "remove_abandoned", "require_namespaces"]

_PREFIX = "dwlab"
_MOUNTED = pathlib.Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_COMMAND_LIMIT = 60.0


def require_namespaces() -> None:
    """Skip the current test where namespaces with NAT cannot be made."""
    require(sys.platform == "linux", "network namespaces need Linux")
    require(os.geteuid() == 0, "network namespaces need root")
    for program, package in (
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("sysctl", "procps"),
    ):
        require(shutil.which(program), f"{program} (package {package}) is missing")
    require(not _obstacle(), f"network namespaces do not work here: {_obstacle()}")


@functools.cache
def _obstacle() -> str:
    """Return why this kernel or container has no namespaces with NAT, or ''."""
    with contextlib.ExitStack() as stack:
        try:
            trial = Namespace("trial")
            stack.callback(trial.remove)
            trial.nft(
                "add table ip t; "
                "add chain ip t c { type nat hook postrouting priority srcnat; }; "
                "add rule ip t c masquerade"
            )
        except LabError as error:
            return str(error)
    return ""


def remove_abandoned() -> None:
    """Remove the namespaces of test runs that were killed."""
    if not _MOUNTED.is_dir():
        return
    for path in _MOUNTED.iterdir():
        match = re.match(rf"{_PREFIX}-(\d+)-", path.name)
        if match and not pathlib.Path("/proc", match[1]).exists():
            _remove(path.name)


def _call(command: Sequence[str], text: str | None = None) -> str:
    """Run a configuration program; return what it printed."""
    done = subprocess.run(
        list(command), input=text, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        shown = f"{' '.join(command)}\n{text or ''}"
        raise LabError(f"{shown}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _pids(name: str) -> list[int]:
    return [int(word) for word in _call(["ip", "netns", "pids", name]).split()]


def _remove(name: str) -> None:
    """End whatever runs in a namespace of ours, then remove it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(LabError):
            wait_for("the end of processes", lambda: not _pids(name), 5.0)
            break
    _call(["ip", "netns", "delete", name])


_count = iter(range(1, 1 << 30))


class Namespace:
    """One machine's network.

    :param label: what it is in the topology; its full name is unique.
    :ivar number: unique in this process, for names that have to be short.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.number = next(_count)
        self.name = f"{_PREFIX}-{os.getpid()}-{self.number}-{label}"
        _call(["ip", "netns", "add", self.name])
        self.ip("link set lo up")

    @property
    def exists(self) -> bool:
        """Whether it has not been removed."""
        return (_MOUNTED / self.name).exists()

    def remove(self) -> None:
        """End what runs in it and remove it."""
        _remove(self.name)

    def ip(self, *commands: str) -> None:
        """Run commands of ``ip``, each without that word."""
        _call(["ip", "-n", self.name, "-batch", "-"], "\n".join(commands) + "\n")

    def nft(self, rules: str) -> None:
        """Add nftables rules."""
        _call(["ip", "netns", "exec", self.name, "nft", "-f", "-"], rules + "\n")

    def inspect(self, *command: str) -> str:
        """Run a program that shows something of this network."""
        return _call(["ip", "netns", "exec", self.name, *command])

    def sysctl(self, **settings: int) -> None:
        """Set ``net.*`` values, dots written as ``__``; those not there are ignored."""
        words = [f"net.{n.replace('__', '.')}={v}" for n, v in settings.items()]
        self.inspect("sysctl", "-q", "-e", "-w", *words)

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the command that runs ``words`` in this network.

        The process id is that of the program: ``ip`` executes it in its own place.
        """
        return ["ip", "netns", "exec", self.name, *words]

    def run(
        self,
        words: Sequence[str],
        directory: pathlib.Path,
        environment: Mapping[str, str],
        limit: float = _COMMAND_LIMIT,
    ) -> str:
        """Run a program to its end; return what it printed.

        :raises LabError: with all it printed, if its status is not 0.
        """
        try:
            done = subprocess.run(
                self.command(words),
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"{list(words)} at {self.label}: {limit:g} s over") from None
        if done.returncode:
            raise LabError(
                f"{list(words)} at {self.label} ended with {done.returncode}:\n"
                f"{done.stdout}{done.stderr}"
            )
        return done.stdout

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread make sockets in the namespace; they stay in it."""
        home = f"/proc/self/task/{threading.get_native_id()}/ns/net"
        with open(home, "rb") as back, open(_MOUNTED / self.name, "rb") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(back.fileno())

    def socket(self, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """Return a new IPv4 socket in the namespace."""
        with self.entered():
            return socket.socket(socket.AF_INET, kind)


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
