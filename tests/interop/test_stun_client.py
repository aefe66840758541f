"""A standard STUN client (coturn's) at our Binding answers."""

from __future__ import annotations

import os
import re
import shutil
import socket

from twisted.internet.protocol import DatagramProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.stun.binding import binding_response, is_binding_request
from dwcloud.protocol.stun.message import STUNMessage
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


class BindingServer(DatagramProtocol):
    """Answers Binding requests and notes who asked."""

    def __init__(self) -> None:
        self.asked_by: list[tuple[str, int]] = []

    def datagramReceived(self, data: bytes, address: tuple[str, int]) -> None:
        """Answer, or drop what is no request."""
        try:
            request = STUNMessage.decode(data)
        except RemoteProtocolError:
            return
        if is_binding_request(request):
            self.asked_by.append(address[:2])
            response = binding_response(request, address[:2])
            encoded = response.encode(fingerprint=request.has_fingerprint)
            self.transport.write(encoded, address)


class StandardClientTests(TestCase):
    """turnutils_stunclient."""

    async def ask(self, host: str) -> tuple[str, list[tuple[str, int]]]:
        """Run the client; return its output and the addresses that it had."""
        from twisted.internet import reactor

        program = shutil.which(CLIENT)
        require(program, f"{CLIENT} (package coturn) is not installed")
        server = BindingServer()
        port = reactor.listenUDP(0, server, interface=host)
        self.addCleanup(port.stopListening)
        out, err, code = await getProcessOutputAndValue(
            program, ["-p", str(port.getHost().port), host], env=dict(os.environ)
        )
        output = (out + err).decode(errors="replace")
        self.assertEqual(code, 0, output)
        return output, server.asked_by

    async def test_ipv4(self) -> None:
        """It reports the address that it had, as its reflexive one."""
        output, asked_by = await self.ask("127.0.0.1")
        self.assertIn("UDP reflexive addr", output)
        found = re.findall(r"127\.0\.0\.1:(\d+)", output)
        self.assertIn(("127.0.0.1", int(found[-1])), asked_by)

    async def test_ipv6(self) -> None:
        """The same over IPv6."""
        require(has_ipv6_loopback(), "this machine has no IPv6 loopback address")
        output, asked_by = await self.ask("::1")
        self.assertIn("UDP reflexive addr", output)
        found = re.findall(r"::1\]?:(\d+)", output)
        self.assertIn(int(found[-1]), [port for _, port in asked_by])
