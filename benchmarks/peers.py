"""The programs that are measured: how they are built, started and heard."""

from __future__ import annotations

import functools
import importlib.util
import json
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

import attrs

from tests.lab.namespaces import Namespace

__all__ = [
    "TRANSPORTS",
    "MeasurementFailed",
    "Peer",
    "Transport",
    "compiled",
    "remove_programs",
]

ROOT = pathlib.Path(__file__).resolve().parent.parent
_SOURCES = pathlib.Path(__file__).resolve().parent
_UDT_HEADER = pathlib.Path("/usr/include/udt/udt.h")


class MeasurementFailed(Exception):
    """A peer did not say what it was asked for; the message tells what it said."""


@functools.cache
def _build_directory() -> pathlib.Path:
    return pathlib.Path(tempfile.mkdtemp(prefix="dwcloud-benchmarks-"))


@functools.cache
def compiled(source: str) -> str:
    """Return the program made of a source file beside this module.

    :raises MeasurementFailed: if the compiler is missing or finds a fault.
    """
    path = _SOURCES / source
    compiler, libraries = ("gcc", [])
    if path.suffix == ".cpp":
        compiler, libraries = ("g++", ["-ludt", "-lpthread"])
    program = _build_directory() / path.stem
    command = [compiler, "-O2", "-o", str(program), str(path), *libraries]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise MeasurementFailed(f"{compiler}: {error}") from None
    if done.returncode:
        raise MeasurementFailed(f"{' '.join(command)}:\n{done.stderr}")
    return str(program)


def remove_programs() -> None:
    """Remove what was compiled."""
    shutil.rmtree(_build_directory(), ignore_errors=True)
    _build_directory.cache_clear()
    compiled.cache_clear()


@attrs.frozen
class Transport:
    """One of the things compared.

    :ivar name: in tables and on the command line.
    :ivar module: of ours to run, or None for the reference library.
    :ivar options: words before the role.
    :ivar last: words after the role of a sender.
    """

    name: str
    module: str | None = None
    options: tuple[str, ...] = ()
    last: tuple[str, ...] = ()

    def command(self, role: str, *words: object) -> list[str]:
        """Return the command of a peer."""
        if self.module is None:
            start = [compiled("reference_peer.cpp")]
        else:
            start = [sys.executable, "-m", self.module, *self.options]
        last = self.last if role == "send" else ()
        return [*start, role, *map(str, words), *last]

    @property
    def obstacle(self) -> str:
        """Why it cannot run on this machine, or ''."""
        if self.module is None and not (shutil.which("g++") and _UDT_HEADER.exists()):
            return "needs g++ and libudt-dev"
        if self.name == "aioquic" and importlib.util.find_spec("aioquic") is None:
            return "the package aioquic is not installed"
        if self.last and self.last[0] not in _kernel_controls():
            return f"the kernel has no {self.last[0]}"
        return ""


def _kernel_controls() -> Sequence[str]:
    path = "/proc/sys/net/ipv4/tcp_available_congestion_control"
    try:
        return pathlib.Path(path).read_text().split()
    except OSError:
        return ()


_OURS = "benchmarks.udt_peer"
_TCP = "benchmarks.tcp_peer"

TRANSPORTS = {
    transport.name: transport
    for transport in (
        Transport("libudt"),
        Transport("dwcloud", _OURS),
        Transport("dwcloud-tls", _OURS, ("--tls", "{identity}")),
        Transport("dwcloud-plain", _OURS, ("--no-offload",)),
        Transport("tcp-bbr", _TCP, last=("bbr",)),
        Transport("tcp-cubic", _TCP, last=("cubic",)),
        Transport("aioquic", "benchmarks.quic_peer"),
    )
}
"""All transports by name: ours as it comes, in TLS and without kernel offload, the
reference library that ratios refer to, and others."""


class Peer:
    """A running peer; a context manager that ends it.

    :param command: see :meth:`Transport.command`.
    :param namespace: where it runs; None for the machine's own network.
    """

    def __init__(
        self,
        command: Sequence[str],
        namespace: Namespace | None,
        directory: pathlib.Path = ROOT,
    ) -> None:
        self._command = list(command)
        words = self._command if namespace is None else namespace.command(command)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end
        self._process = subprocess.Popen(
            words,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def line(self, limit: float) -> str:
        """Wait for the next line that it prints.

        :param limit: seconds.
        :raises MeasurementFailed: if it ends or takes longer.
        """
        output = self._process.stdout
        assert output is not None
        end = time.monotonic() + limit
        if select.select([output], [], [], max(0.0, end - time.monotonic()))[0]:
            line = output.readline().decode().strip()
            if line:
                return line
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace")[-2000:]
        raise MeasurementFailed(
            f"{' '.join(self._command)}: nothing within {limit:g} s\n{said}"
        )

    def ready(self) -> None:
        """Wait until it listens."""
        if self.line(20.0) != "ready":
            raise MeasurementFailed(f"{' '.join(self._command)}: did not listen")

    def figures(self, limit: float) -> Mapping[str, float]:
        """Wait for its measurements; see :meth:`line`."""
        found: Mapping[str, float] = json.loads(self.line(limit))
        return found
