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
from typing import Any

from tests.lab.namespaces import Namespace, remove_abandoned
from tests.lab.nat_rules import ROUTED_KINDS, router_rules
from tests.lab.processes import PATIENCE, Process, wait_for
from tests.lab.traffic import Meter

__all__ = ["DEFAULT_LAN", "Host", "Lab", "Router"]

_INTERNET = ipaddress.IPv4Network("11.1.1.0/24")
_ROUTED = ipaddress.IPv4Network("11.1.2.0/24")
# Global addresses for every program: miniupnpd forwards no ports at any other, and
# takes all ranges that are reserved for something to be no global ones.

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
    def explaining(self, prefix: str = "") -> Iterator[None]:
        """Add what the programs printed to the message of a failed assertion.

        :param prefix: of the names of the hosts that matter; empty for all.
        """
        try:
            yield
        except AssertionError as error:
            accounts = [
                process.account()
                for process in self._processes
                if process.name.startswith(prefix)
            ]
            accounts += [
                f"--- {path.name}\n{path.read_text(errors='replace')[-6000:]}"
                for path in sorted(self.directory.glob(f"{prefix}*/*.log"))
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

    def readdress(
        self, namespace: Namespace, interface: str, old: str, new: str
    ) -> None:
        """Give a namespace that was joined another address."""
        ports = self.core.inspect("ip", "-o", "route", "show", f"{old}/32")
        port = ports.split(" dev ")[1].split()[0]
        self.core.ip(f"route del {old}/32", f"route add {new}/32 dev {port}")
        namespace.ip(
            f"address del {old}/32 dev {interface}",
            f"address add {new}/32 dev {interface}",
            f"route replace {self._gateway}/32 dev {interface}",
            f"route replace default via {self._gateway}",
        )

    def host(self, label: str) -> Host:
        """Add a host with a public address that nothing protects."""
        namespace, address = self.namespace(label), self.address()
        self.join(namespace, "eth0", address)
        return Host(self, namespace, address)

    def add_address(self, host: Host) -> str:
        """Give a public host one more address; return it."""
        address = self.address()
        self.core.ip(f"route add {address}/32 via {host.address}")
        host.namespace.ip(f"address add {address}/32 dev eth0")
        return address

    def router(
        self, label: str, kind: str, lan: str = DEFAULT_LAN, **rules: Any
    ) -> Router:
        """Add a router and the network behind it.

        :param kind: of :data:`tests.lab.nat_rules.ROUTED_KINDS` or
            :data:`tests.lab.nat_rules.TRANSLATING_KINDS`.
        :param lan: addresses behind a router that translates them.
        :param rules: further ones of :func:`tests.lab.nat_rules.router_rules`.
        """
        network = ipaddress.IPv4Network(lan)
        if kind in ROUTED_KINDS:
            network = next(self._subnets)
        router = Router(self, label, self.address(), network)
        self.join(router.namespace, "wan", router.address)
        if kind in ROUTED_KINDS:
            self.core.ip(f"route add {network} via {router.address}")
        router.apply(kind, rules)
        return router


class Router:
    """Joins a network of hosts to the Internet, or to that of another router.

    :ivar address: its own in the network outside.
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
        _forward(self.namespace)

    def apply(self, kind: str, rules: dict[str, Any]) -> None:
        """Filter and translate as a router of this kind does."""
        self.namespace.nft(router_rules(kind, self.address, **rules))
        timeout = rules.get("udp_timeout")
        if timeout is not None:
            name = "netfilter__nf_conntrack_udp_timeout"
            self.namespace.sysctl(**{name: timeout, f"{name}_stream": timeout})

    def router(
        self, label: str, kind: str, lan: str = DEFAULT_LAN, **rules: Any
    ) -> Router:
        """Add a router behind this one, as a customer's behind that of a carrier."""
        network = ipaddress.IPv4Network(lan)
        inner = Router(self._lab, label, str(next(self._hosts)), network)
        self._connect(inner.namespace, "wan", inner.address)
        inner.apply(kind, rules)
        return inner

    def change_address(self) -> str:
        """Get another address in the Internet, and forget all mappings.

        The kernel forgets what it masqueraded with an address that goes; the rules of
        kinds that keep holes know the address, so that those cannot change it.
        """
        old, self.address = self.address, self._lab.address()
        self._lab.readdress(self.namespace, "wan", old, self.address)
        return self.address

    def host(self, label: str, *, isolated: bool = False) -> Host:
        """Add a host behind this router.

        :param isolated: whether it and other isolated ones do not see each other, as
            in the wireless network of a hotel.
        """
        namespace, address = self._lab.namespace(label), str(next(self._hosts))
        port = self._connect(namespace, "eth0", address)
        if isolated:
            self.namespace.ip(f"link set {port} type bridge_slave isolated on")
        return Host(self._lab, namespace, address)

    def _connect(self, namespace: Namespace, interface: str, address: str) -> str:
        """Bring a namespace into the network behind this router."""
        port = _wire(self.namespace, namespace, interface)
        self.namespace.ip(f"link set {port} master lan up")
        self._configure(namespace, interface, address)
        return port

    def cut_off(self) -> None:
        """Take the Internet away."""
        self.namespace.ip("link set wan down")

    def _configure(self, namespace: Namespace, interface: str, address: str) -> None:
        namespace.ip(
            f"address add {address}/{self._prefix} dev {interface}",
            f"route add default via {self._gateway}",
            f"route add 224.0.0.0/4 dev {interface}",
        )

    def renumber(self, host: Host) -> str:
        """Give a host another address, as a new DHCP lease does; return it."""
        host.address = str(next(self._hosts))
        host.namespace.ip("address flush dev eth0")
        self._configure(host.namespace, "eth0", host.address)
        return host.address

    def unplug(self, host: Host) -> None:
        """Take a host's cable out."""
        host.namespace.ip("link set eth0 down")

    def plug(self, host: Host) -> None:
        """Put it in again; the host gets its address anew."""
        host.namespace.ip("link set eth0 up", "address flush dev eth0")
        self._configure(host.namespace, "eth0", host.address)

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

    def run(self, words: Sequence[str], limit: float = 2 * PATIENCE) -> str:
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

    def wait_until_listening(self, port: int, limit: float = PATIENCE) -> None:
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
