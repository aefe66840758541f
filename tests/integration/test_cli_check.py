"""``dwcloud check`` as a process, against a cloud on loopback."""

from __future__ import annotations

import json
import re
from typing import Any

import attrs
from twisted.internet.protocol import Factory

from dwcloud.cli.demo_cloud import LOOPBACK
from dwcloud.peer.findings import Findings
from tests.integration.cloud import CloudTestCase
from tests.packaging.source_tree import ROOT

_STRANGER = "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"
_PATIENTLY = ("--timeout", "60")
"""For whom everything answers, but on a machine with much else to do."""


class CheckTests(CloudTestCase):
    """What it prints and how it ends."""

    async def check(self, *words: str) -> tuple[int | None, dict[str, Any]]:
        """Examine; return the exit code and the object."""
        result = await self.run_dwcloud("check", *words, "--json", "--no-lan")
        self.assertEqual(result.err, "")
        self.assertEqual(result.out.count(b"\n"), 1)
        return result.code, json.loads(result.out)

    async def test_peer(self) -> None:
        """A connection is made, and said to be possible."""
        # On a busy machine a direct path may take longer than a relay waits for it.
        mediator = self.start_cloud("--parameter", "relay_grace=10")
        peer, _ = await self.serve(mediator, f"echo={LOOPBACK}:{self.start_echo()}")
        code, found = await self.check(
            *(peer, "--mediator", mediator, "--interface", LOOPBACK, *_PATIENTLY)
        )
        self.assertEqual((code, found["possible"]), (0, True))
        self.assertIn(found["path"], {"tcp", "udp"})
        self.assertEqual(found["peer"]["state"], "connected")
        self.assertTrue(found["udp"]["works"])
        self.assertTrue(found["tcp"]["works"])
        self.assertTrue(found["mediator_inside"])
        (relay,) = found["relays"]
        self.assertFalse(relay["assumed"])
        works = {m["method"]: m["works"] for m in found["methods"]}
        self.assertTrue(works["direct"])

    async def test_page(self) -> None:
        """For people there is a page, without colour where it is no terminal."""
        mediator = self.start_cloud()
        result = await self.run_dwcloud(
            "check", "--mediator", mediator, "--no-lan", *_PATIENTLY
        )
        page = result.out.decode()
        self.assertEqual((result.code, result.err), (0, ""), page)
        for title in ("Mediator", "NAT", "Ways to carry a stream", "Result"):
            self.assertIn(title, page)
        self.assertNotIn("\x1b", page)

    async def test_unknown(self) -> None:
        """A name that the mediator does not know fails, with what to do."""
        mediator = self.start_cloud()
        code, found = await self.check(_STRANGER, "--mediator", mediator, *_PATIENTLY)
        self.assertEqual((code, found["possible"]), (1, False))
        self.assertEqual(found["peer"]["state"], "unknown")
        self.assertIn("Check the name", found["advice"][0])

    async def test_nobody(self) -> None:
        """Where no mediator is, that is said within the limit."""
        port = self.reactor.listenTCP(0, Factory(), interface=LOOPBACK)
        number = port.getHost().port
        await port.stopListening()
        code, found = await self.check(
            "--mediator", f"{LOOPBACK}:{number}", "--timeout", "3"
        )
        self.assertEqual((code, found["possible"]), (1, False))
        self.assertIn("refused", found["tcp"]["reason"])
        # Without a limit UDP alone would be waited for much longer.
        self.assertLess(found["seconds"], 30.0)

    async def test_foreign_interface(self) -> None:
        """An address of another machine is told, and nothing is possible."""
        code, found = await self.check(
            "--mediator", LOOPBACK, "--interface", "192.0.2.77"
        )
        self.assertEqual((code, found["possible"]), (1, False))
        self.assertIn("192.0.2.77", found["udp"]["reason"])

    async def test_documented(self) -> None:
        """Every key of the object is in the reference."""
        _, found = await self.check("--mediator", LOOPBACK, "--timeout", "2")
        text = (ROOT / "docs/reference/commands.rst").read_text(encoding="utf-8")
        _, _, rest = text.partition("``dwcloud check``\n---")
        section, _, _ = rest.partition("``dwcloud status``\n---")
        named = set(re.findall(r"``([a-z_0-9]+)``", section))
        fields = {f.name for f in attrs.fields(Findings)}
        self.assertEqual(set(found) - named, set())
        self.assertEqual(fields - {"nat_reason", "way"} - named, set())
