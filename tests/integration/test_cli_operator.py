"""``dwcloud operator`` with a real mediator that keeps accounts."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.threads import deferToThread

from dwcloud.cli.demo_cloud import LOOPBACK, free_port
from dwcloud.mediator import tap as mediator_tap
from tests.integration.accounts_cloud import PASSWORD, ask
from tests.integration.cloud import CloudTestCase, Finished


class OperatorTests(CloudTestCase):
    """On the machine of the mediator."""

    def setUp(self) -> None:
        """Start a mediator."""
        super().setUp()
        self.port = free_port()
        self.accounts = self.directory / "accounts"
        self.start_service(
            mediator_tap,
            *("--listen", f"tcp:{self.port}:interface={LOOPBACK}", "--relay", "none"),
            *("--udp", "none", "--registration", "invited"),
            *("--accounts", str(self.accounts)),
        )

    async def operate(self, *words: str) -> Finished:
        """Run a command."""
        result = await self.run_dwcloud(
            "operator",
            *words,
            *("--mediator", f"http://{LOOPBACK}:{self.port}"),
            *("--accounts", str(self.accounts)),
        )
        self.assertEqual((result.code, result.err), (0, ""), words)
        return result

    async def ask(self, path: str, body: Any) -> Any:
        """Ask the API; return the status and the answer."""
        answer = await deferToThread(ask, self.port, "POST", path, body)
        return answer.status, answer.body

    async def test_all(self) -> None:
        """Somebody is invited, listed, locked, reset and closed."""
        code = (await self.operate("invite")).out.decode().strip()
        body = {"name": "ann", "password": PASSWORD}
        status, _ = await self.ask("/accounts", body)
        self.assertEqual(status, 403)
        status, _ = await self.ask("/accounts", {**body, "invitation": code})
        self.assertEqual(status, 201)
        listed = json.loads((await self.operate("list", "--json")).out)
        self.assertEqual([a["name"] for a in listed["accounts"]], ["ann"])
        for words, expected in (
            (("disable", "ann"), 401),
            (("enable", "ann"), 201),
        ):
            await self.operate(*words)
            status, _ = await self.ask("/sessions", body)
            self.assertEqual(status, expected, words)
        reset = await self.operate("reset", "ann", "--second-factor", "--json")
        body["password"] = json.loads(reset.out)["password"]
        status, _ = await self.ask("/sessions", body)
        self.assertEqual(status, 201)
        table = (await self.operate("list")).out.decode()
        self.assertIn("ann", table)
        await self.operate("close", "ann", "--yes")
        listed = json.loads((await self.operate("list", "--json")).out)
        self.assertEqual(listed["accounts"], [])

    async def test_mistakes(self) -> None:
        """What is missing or wrong is told."""
        place = ("--mediator", f"http://{LOOPBACK}:{self.port}")
        here = ("--accounts", str(self.accounts))
        for words, code, part in (
            (("list", *place), 2, "--accounts DIR"),
            (("disable", *place, *here), 2, "NAME"),
            (("list", *place, "--accounts", "/nowhere"), 1, "/nowhere/operator.key"),
            (("disable", "bob", *place, *here), 1, "no account named 'bob'"),
            (("close", "bob", *place, *here), 1, "--yes"),
        ):
            result = await self.run_dwcloud("operator", *words)
            self.assertEqual(result.code, code, words)
            self.assertIn(part, result.err)
