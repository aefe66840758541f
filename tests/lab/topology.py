"""The lab: an Internet of namespaces, with routers and hosts to build in it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pathlib
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType

from tests.lab.namespaces import Namespace, remove_abandoned
from tests.lab.nat_rules import ROUTED_KINDS, router_rules
from tests.lab.processes import Process, wait_for
from tests.lab.traffic import Meter

__all__ = ["DEFAULT_LAN", "Host", "Lab", "Router"]

_INTERNET = ipaddress.IPv4Network("192.88.99.0/24")
_ROUTED = ipaddress.IPv4Network("192.31.196.0/24")
# Global addresses for every program (documentation ranges are not), and nobody's:
# relays of a protocol that was given up, and black holes for stray queries.

DEFAULT_LAN = "192.168.1.0/24"
PROGRAMS = pathlib.Path(sys.executable).parent
"""Where ``twistd`` and ``dwcloud`` are installed."""


class Lab:
    """An Internet, empty at first. A context manager: at its end all is removed.

    :ivar directory: of the files of its hosts.
    :ivar logs: what programs printed.
    :ivar core: the namespace that joins all others.
    """

    def __init__(self) -> None:
        remove_abandoned()
        self._stack = contextlib.ExitStack()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="dwcloud-lab-"))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        self._processes: list[Process] = []
        self._addresses = _INTERNET.hosts()
        self._subnets = _ROUTED.subnets(new_prefix=28)
        self._gateway = next(self._addresses)
        try:
            self.core = self.namespace("internet")
            self.core.ip(f"address add {self._gateway}/32 dev lo")
            _forward(self.core)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all programs and remove all namespaces."""
        for process in reversed(self._processes):
            process.end()
        self._stack.close()

    def namespace(self, label: str) -> Namespace:
        """Return a new namespace that ends with the lab."""
        namespace = Namespace(label)
        self._stack.callback(namespace.remove)
        return namespace

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Add what the programs printed to the message of a failed assertion."""
        try:
            yield
        except AssertionError as error:
            accounts = [process.account() for process in self._processes]
            accounts += [
                f"--- {path.name}\n{path.read_text(errors='replace')[-6000:]}"
                for path in sorted(self.directory.glob("*/*.log"))
            ]
            error.args = ("\n".join([str(error), *accounts]),)
            raise

    def keep(self, process: Process) -> Process:
        """End a program with the lab, and show its output in explanations."""
        self._processes.append(process)
        return process

    def address(self) -> str:
        """Return an address of the Internet that is not in use."""
        return str(next(self._addresses))

    def join(self, namespace: Namespace, interface: str, address: str) -> None:
        """Connect a namespace to the Internet, by a line of its own.

        The Internet routes: it is not a network in which neighbours discover each
        other.
        """
        port = _wire(self.core, namespace, interface)
        self.core.ip(f"link set {port} up", f"route add {address}/32 dev {port}")
        namespace.ip(
            f"address add {address}/32 dev {interface}",
            f"route add {self._gateway}/32 dev {interface}",
            f"route add default via {self._gateway}",
        )

    def host(self, label: str) -> Host:
        """Add a host with a public address that nothing protects."""
        namespace, address = self.namespace(label), self.address()
        self.join(namespace, "eth0", address)
        return Host(self, namespace, address)

    def router(
        self, label: str, kind: str, lan: str = DEFAULT_LAN, *, block_udp: bool = False
    ) -> Router:
        """Add a router and the network behind it.

        :param kind: of :data:`tests.lab.nat_rules.ROUTED_KINDS` or
            :data:`tests.lab.nat_rules.TRANSLATING_KINDS`.
        :param lan: addresses behind a router that translates them.
        """
        network = ipaddress.IPv4Network(lan)
        if kind in ROUTED_KINDS:
            network = next(self._subnets)
        router = Router(self, label, self.address(), network)
        if kind in ROUTED_KINDS:
            self.core.ip(f"route add {network} via {router.address}")
        router.namespace.nft(router_rules(kind, router.address, block_udp=block_udp))
        return router


class Router:
    """Joins a network of hosts to the Internet.

    :ivar address: its public one.
    """

    def __init__(
        self, lab: Lab, label: str, address: str, network: ipaddress.IPv4Network
    ) -> None:
        self.address = address
        self.namespace = lab.namespace(label)
        self._lab = lab
        self._prefix = network.prefixlen
        self._hosts = network.hosts()
        self._gateway = next(self._hosts)
        self.namespace.ip(
            "link add lan type bridge",
            f"address add {self._gateway}/{self._prefix} dev lan",
            "link set lan up",
        )
        lab.join(self.namespace, "wan", address)
        _forward(self.namespace)

    def host(self, label: str) -> Host:
        """Add a host behind this router."""
        namespace, address = self._lab.namespace(label), str(next(self._hosts))
        port = _wire(self.namespace, namespace, "eth0")
        self.namespace.ip(f"link set {port} master lan up")
        namespace.ip(
            f"address add {address}/{self._prefix} dev eth0",
            f"route add default via {self._gateway}",
            "route add 224.0.0.0/4 dev eth0",
        )
        return Host(self._lab, namespace, address)

    def meter(self) -> Meter:
        """Count what goes between this network and the Internet."""
        return Meter(self.namespace, "wan")


class Host:
    """A machine that runs programs.

    :ivar address: its own.
    :ivar directory: where its programs run, and what they take for the home.
    """

    def __init__(self, lab: Lab, namespace: Namespace, address: str) -> None:
        self.namespace = namespace
        self.address = address
        self.label = namespace.label
        self._lab = lab
        self.directory = lab.directory / namespace.label
        self.directory.mkdir()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.lower().endswith("_proxy")
            and not name.startswith(("DWCLOUD_", "XDG_"))
        }
        self.environment["HOME"] = str(self.directory)
        self.environment["PATH"] = f"{PROGRAMS}:{self.environment.get('PATH', '')}"
        self.environment["PYTHONUNBUFFERED"] = "1"

    def run(self, words: Sequence[str], limit: float = 60.0) -> str:
        """Run a program to its end; return what it printed.

        :param limit: seconds.
        :raises tests.lab.processes.LabError: if its status is not 0.
        """
        return self.namespace.run(words, self.directory, self.environment, limit)

    def spawn(self, name: str, words: Sequence[str]) -> Process:
        """Start a program that runs until the lab ends.

        :param name: of the program, in messages.
        """
        return self._lab.keep(
            Process(
                f"{self.label}-{name}",
                self.namespace.command(words),
                self.directory,
                self.environment,
                self._lab.logs,
            )
        )

    def listens(self, port: int) -> bool:
        """Tell whether a program listens on a TCP port."""
        sockets = self.namespace.inspect("ss", "-Hltn", f"sport = :{port}")
        return bool(sockets.strip())

    def wait_until_listening(self, port: int, limit: float = 30.0) -> None:
        """Wait until a program listens on a TCP port.

        :raises tests.lab.processes.LabError: if none does in time.
        """
        wait_for(f"port {port} at {self.label}", lambda: self.listens(port), limit)

    def socket(self, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """Return a new IPv4 socket of this host, to be used by the test itself."""
        return self.namespace.socket(kind)

    def meter(self) -> Meter:
        """Count what goes between this host and others."""
        return Meter(self.namespace, "eth0")


def _forward(namespace: Namespace) -> None:
    """Let a namespace forward packets, and its bridges without the forward rules."""
    namespace.sysctl(
        **{
            "ipv4__ip_forward": 1,
            "ipv4__conf__all__send_redirects": 0,
            "ipv4__conf__default__send_redirects": 0,
            "bridge__bridge-nf-call-iptables": 0,
        }
    )


def _wire(one: Namespace, other: Namespace, interface: str) -> str:
    """Lay a cable from ``interface`` of ``other`` to ``one``; return its end there."""
    port = f"to-{other.number}"
    one.ip(f"link add {port} type veth peer name {interface} netns {other.name}")
    other.ip(f"link set {interface} up")
    return port
