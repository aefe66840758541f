"""What the relay tells Prometheus."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.metrics import render
from dwcloud.relay.metrics import families
from dwcloud.relay.statistics import Statistics
from tests.exposition import complaints, read_metrics, values
from tests.unit.relay.relay_world import RelayTestCase

DIRECTIONS = ("worker", "direction")


class RelayMetricsTests(RelayTestCase):
    """A relay's page, after something has happened."""

    service_options: dict[str, Any] = {}

    def text(self) -> str:
        return render(families([self.relay.figures()]), "")[0].decode()

    def test_tunnels(self) -> None:
        """Tunnels, their bytes and how long clients waited are counted."""
        self.full_pool()
        recorder = self.connect()
        assert recorder.transport is not None
        recorder.transport.write(b"x" * 1000)
        self.world.run_until(lambda: len(recorder.data) == 1000)
        during = read_metrics(self.text())
        self.assertEqual(values(during["dwcloud_relay_tunnels"]), {("0",): 1})
        carried = {("0", "to_server"): 1000.0, ("0", "to_client"): 1000.0}
        name = "dwcloud_relay_payload_bytes"
        self.assertEqual(values(during[name], "_total", DIRECTIONS), carried)
        recorder.transport.loseConnection()
        self.world.run_until(lambda: not self.relay.switchboard.figures()["tunnels"])
        after = read_metrics(self.text())
        self.assertEqual(values(after[name], "_total", DIRECTIONS), carried)
        opened = after["dwcloud_relay_tunnels_opened"]
        self.assertEqual(values(opened, "_total"), {("0",): 1})
        for name in ("wait_seconds", "tunnel_seconds"):
            counts = values(after[f"dwcloud_relay_{name}"], "_count")
            self.assertEqual(counts, {("0",): 1}, name)

    def test_refusals(self) -> None:
        """Refusals are counted by status, whatever was asked for."""
        for number in range(3):
            self.ask("GET", f"/nothing/{number}")
        refused = read_metrics(self.text())["dwcloud_relay_refused"]
        self.assertEqual(
            values(refused, "_total", ("worker", "status")), {("0", "404"): 3}
        )

    def test_conventions(self) -> None:
        """promtool finds nothing to say, where it is installed."""
        self.full_pool()
        self.connect()
        text = self.text()
        self.assertEqual(complaints(text), "")
        for name in read_metrics(text):
            self.assertRegex(name, r"^dwcloud_(relay_[a-z_]+|build_info)$")

    def test_over_http(self) -> None:
        """Strangers see no metrics; health is for everybody, and ends with a drain."""
        self.assertEqual(self.ask("GET", "/metrics").status, 403)
        self.assertEqual(self.ask("POST", "/metrics").status, 405)
        self.assertEqual(self.ask("GET", "/health").status, 200)
        self.full_pool()
        self.connect()
        connection = self.http()
        self.relay.switchboard.drain(30.0)
        answer = self.ask("GET", "/health", connection=connection)
        self.assertEqual(answer.status, 503)
        self.assertIn("about to stop", json.loads(answer.body)["problems"][0])


class WorkersTests(SynchronousTestCase):
    """Several processes of one relay."""

    def test_each_by_itself(self) -> None:
        """Every process has its label, so that a restart is no dent in a sum."""
        now = dict.fromkeys(
            (
                *("servers", "idle_connections", "waiting_clients", "sessions"),
                *("tunnels", "tunnels_spliced", "tunnels_limit", "http_connections"),
                *("bytes_to_server", "bytes_to_client"),
            ),
            1,
        )
        parts = []
        for worker in range(3):
            statistics = Statistics(0.0, tunnels=worker + 1)
            statistics.wait_seconds.observe(0.02)
            ended = {**statistics.totals(), "http_connections_evicted": 0}
            parts.append(
                {
                    "version": "1",
                    "uptime": 5.0,
                    "worker": str(worker),
                    "worker_restarts": worker,
                    "now": now,
                    "ended": ended,
                }
            )
        text = render(families(parts), "")[0].decode()
        metrics = read_metrics(text)
        opened = values(metrics["dwcloud_relay_tunnels_opened"], "_total")
        self.assertEqual(opened, {("0",): 1, ("1",): 2, ("2",): 3})
        restarts = values(metrics["dwcloud_relay_worker_restarts"], "_total")
        self.assertEqual(restarts, {("0",): 0, ("1",): 1, ("2",): 2})
        waits = values(metrics["dwcloud_relay_wait_seconds"], "_count")
        self.assertEqual(waits, {("0",): 1, ("1",): 1, ("2",): 1})
        self.assertEqual(complaints(text), "")
