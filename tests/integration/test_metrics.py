"""``/metrics`` of a real mediator and a real relay, after real connections."""

from __future__ import annotations

from typing import Any

from prometheus_client.metrics_core import Metric
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater

from dwcloud.cli.demo_cloud import LOOPBACK, free_ports
from dwcloud.mediator import tap as mediator_tap
from dwcloud.net.http_client import HTTPClientConnection
from dwcloud.relay import tap as relay_tap
from tests.exposition import complaints, read_metrics, values
from tests.integration.cloud import READY_TIMEOUT, CloudTestCase

_SUCCEEDED = "dwcloud_mediator_connects_succeeded"
_CARRIED = "dwcloud_relay_payload_bytes"
_DATA = b"x" * 100_000


class MetricsTests(CloudTestCase):
    """What Prometheus would collect."""

    def start_both(self, *, udp: bool) -> None:
        """Start a mediator and a relay, at ports that are kept."""
        self.relay_port, self.mediator_port, udp_port = free_ports(3)
        self.start_service(
            relay_tap, "--listen", f"tcp:{self.relay_port}:interface={LOOPBACK}"
        )
        self.start_service(
            mediator_tap,
            *("--listen", f"tcp:{self.mediator_port}:interface={LOOPBACK}"),
            *("--relay", f"http://{LOOPBACK}:{self.relay_port}"),
            *("--udp", f"{udp_port}:interface={LOOPBACK}" if udp else "none"),
        )

    async def collect(self, port: int) -> dict[str, Metric]:
        """Read a page of metrics, as this machine may."""
        carrier = TCP4ClientEndpoint(self.reactor, LOOPBACK, port)
        connection: Any = await connectProtocol(carrier, HTTPClientConnection("m"))
        answer = await connection.request("GET", "/metrics")
        connection.disconnect()
        self.assertEqual(answer.status, 200)
        text = answer.body.decode()
        self.assertEqual(complaints(text), "")
        return read_metrics(text)

    async def outcomes(self, expected: int) -> dict[str, float]:
        """The paths that the mediator was told, when it was told as many."""
        while True:
            metrics = await self.collect(self.mediator_port)
            found = {p: n for (p,), n in values(metrics[_SUCCEEDED], "_total").items()}
            if sum(found.values()) >= expected:
                return found
            await deferLater(self.reactor, 0.05)

    async def connect(self, peer: str, path: str) -> None:
        """Send something to the echo and back by a path."""
        result = await self.run_dwcloud(
            *("connect", peer, "--mediator", f"{LOOPBACK}:{self.mediator_port}"),
            # By one method: where the first answer tarries, another one may open a
            # tunnel of its own, which the relay counts, too.
            *("--interface", LOOPBACK, "--path", path, "--method", "upgrade"),
            data=_DATA,
        )
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertEqual(len(result.out), len(_DATA))

    async def start_server(self) -> str:
        """Publish an echo; return the peer's name."""
        mediator = f"{LOOPBACK}:{self.mediator_port}"
        peer, child = await self.serve(mediator, f"e={LOOPBACK}:{self.start_echo()}")
        await child.wait_for(r'"state": "listening"', READY_TIMEOUT)
        return peer

    async def test_connections(self) -> None:
        """Each connection is counted by its path, and what the relay carried."""
        self.start_both(udp=True)
        peer = await self.start_server()
        for path in ("relay", "tcp"):
            await self.connect(peer, path)
        found = await self.outcomes(2)
        self.assertEqual(found, {"lan": 0, "tcp": 1, "udp": 0, "relay": 1})
        metrics = await self.collect(self.relay_port)
        carried = values(metrics[_CARRIED], "_total", ("direction",))
        for direction in ("to_server", "to_client"):
            self.assertGreater(carried[direction,], len(_DATA))
        waited = values(metrics["dwcloud_relay_wait_seconds"], "_count")
        self.assertEqual(waited, {("0",): 1})

    async def test_without_udp(self) -> None:
        """A mediator that has no UDP at all is told the outcome over TCP."""
        self.start_both(udp=False)
        peer = await self.start_server()
        await self.connect(peer, "relay")
        self.assertEqual((await self.outcomes(1))["relay"], 1)
