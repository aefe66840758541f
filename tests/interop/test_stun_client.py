"""A standard STUN client (coturn's) at our mediator."""

from __future__ import annotations

import os
import re
import shutil
import socket

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.service import MediatorService, UDPSocket
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.stun.behaviour import BehaviourServer
from tests.requirements import require

CLIENT = "turnutils_stunclient"


def has_ipv6_loopback() -> bool:
    """Tell whether ``::1`` can be used."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def free_udp_ports() -> tuple[int, int]:
    """Return two ports that are free on all addresses."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        one.bind(("", 0))
        other.bind(("", 0))
        return one.getsockname()[1], other.getsockname()[1]


class StandardClientTests(TestCase):
    """turnutils_stunclient."""

    async def ask(self, host: str) -> str:
        """Run the client against a mediator; return its output."""
        from twisted.internet import reactor

        program = shutil.which(CLIENT)
        require(program, f"{CLIENT} (package coturn) is not installed")
        service = MediatorService(
            reactor, MediatorConfiguration(), [], [UDPSocket(0, host)]
        )
        service.startService()
        self.addCleanup(service.stopService)
        ((_, address),) = service.addresses
        out, err, code = await getProcessOutputAndValue(
            program, ["-p", str(address.port), host], env=dict(os.environ)
        )
        output = (out + err).decode(errors="replace")
        self.assertEqual(code, 0, output)
        return output

    def assertOwnAddress(self, output: str, host: str) -> None:
        """The reflexive address must be on the host that the client ran on."""
        reflexive = re.search(r"UDP reflexive addr: (\S+):(\d+)", output)
        assert reflexive, output
        self.assertEqual(reflexive[1].strip("[]"), host)
        self.assertGreater(int(reflexive[2]), 0)

    async def test_ipv4(self) -> None:
        """It reports the address that it had, as its reflexive one."""
        output = await self.ask("127.0.0.1")
        self.assertOwnAddress(output, "127.0.0.1")

    async def test_nat_discovery(self) -> None:
        """coturn's client for RFC 5780 finds out that there is no NAT."""
        from twisted.internet import reactor

        program = shutil.which("turnutils_natdiscovery")
        require(program, "turnutils_natdiscovery (package coturn) is not installed")
        first, second = free_udp_ports()
        discovery = BehaviourServer(
            Address("127.0.0.1", first), Address("127.0.0.2", second)
        )
        service = MediatorService(
            reactor,
            MediatorConfiguration(),
            [],
            [UDPSocket(first, "127.0.0.1", discovery)],
        )
        service.startService()
        self.addCleanup(service.stopService)
        out, err, code = await getProcessOutputAndValue(
            program,
            ["-m", "-f", "-p", str(first), "-L", "127.0.0.1", "127.0.0.1"],
            env=dict(os.environ),
        )
        output = (out + err).decode(errors="replace")
        self.assertEqual(code, 0, output)
        self.assertIn("Endpoint Independent Filtering", output)
        self.assertIn("Endpoint Independent Mapping", output)

    async def test_ipv6(self) -> None:
        """The same over IPv6."""
        require(has_ipv6_loopback(), "this machine has no IPv6 loopback address")
        output = await self.ask("::1")
        self.assertOwnAddress(output, "::1")
