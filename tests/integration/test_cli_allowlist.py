"""``dwcloud allowlist`` with a real mediator and a real relay."""

from __future__ import annotations

import csv
import json

from dwcloud.cli.demo_cloud import LOOPBACK, free_port
from dwcloud.mediator import tap as mediator_tap
from tests.integration.cloud import CloudTestCase


class AllowlistTests(CloudTestCase):
    """What is listed on loopback, and whether it is reached."""

    async def test_list_and_try(self) -> None:
        """Mediator and relay are found out and answer; other ports refuse."""
        mediator = self.start_cloud()
        words = ("allowlist", "--mediator", mediator, "--interface", LOOPBACK)
        result = await self.run_dwcloud(
            *words,
            "--only",
            "required,direct,alternative",
            "--format",
            "json",
            "--test",
        )
        self.assertEqual((result.code, result.err), (0, ""))
        lines = json.loads(result.out)
        required = [line for line in lines if line["need"] == "required"]
        self.assertEqual(len(required), 2)
        self.assertEqual([line["reachable"] for line in required], [True, True])
        [udp] = [
            line for line in lines if line["purpose"].startswith("the mediator, f")
        ]
        self.assertEqual(udp["reachable"], True)
        for line in lines:
            if line["need"] == "alternative" and line["reachable"] is False:
                self.assertIn(LOOPBACK, line["reason"])

    async def test_second_address(self) -> None:
        """The four sockets by which NATs are explored are listed, and answer."""
        port = free_port()
        self.start_service(
            mediator_tap,
            *("--listen", f"tcp:{port}:interface={LOOPBACK}", "--relay", "none"),
            *("--udp", f"{port}:interface={LOOPBACK}"),
            *("--udp-other", f"127.0.0.2:{port + 1}"),
        )
        result = await self.run_dwcloud(
            *("allowlist", "--mediator", f"{LOOPBACK}:{port}", "--no-lan"),
            *("--format", "csv", "--only", "direct", "--test"),
        )
        self.assertEqual((result.code, result.err), (0, ""))
        rows = list(csv.DictReader(result.out.decode().splitlines()))
        found = {
            (row["host"], row["ports"]): row["reachable"]
            for row in rows
            if row["protocol"] == "udp"
        }
        self.assertEqual(
            found,
            {
                (LOOPBACK, f"{port}"): "yes",
                (LOOPBACK, f"{port + 1}"): "yes",
                ("127.0.0.2", f"{port}"): "yes",
                ("127.0.0.2", f"{port + 1}"): "yes",
                ("any", "1024-65535"): "yes",
            },
        )

    async def test_nobody_there(self) -> None:
        """Without a mediator the relays are missing, which is said; the rest stays."""
        mediator = f"{LOOPBACK}:{free_port()}"
        result = await self.run_dwcloud(
            *("allowlist", "--mediator", mediator, "--only", "required", "--test"),
            *("--interface", LOOPBACK, "--no-lan"),
        )
        self.assertEqual(result.code, 1)
        self.assertIn("does not tell its relays", result.err)
        self.assertIn("refused", result.out.decode())
