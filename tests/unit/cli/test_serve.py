"""What ``dwcloud serve`` tells a person."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.serve import Narrator, suggest_ports
from tests.unit.cli.consoles import KeepingConsole


class SuggestedPortTests(SynchronousTestCase):
    """Local ports for the command that a client may type."""

    def test_usual_ports(self) -> None:
        """Well-known services get the ports that people expect, all different ones."""
        self.assertEqual(
            suggest_ports(["web", "http", "ssh", "camera", "door"]),
            {"web": 8080, "http": 8081, "ssh": 2222, "camera": 8000, "door": 8001},
        )


class NarratorTests(SynchronousTestCase):
    """Events in words."""

    def setUp(self) -> None:
        """Have a narrator."""
        self.console = KeepingConsole()
        self.narrator = Narrator(self.console)

    def test_online(self) -> None:
        """The relays are named."""
        self.narrator.tell({"event": "online", "relays": ["http://a:1", "http://b:2"]})
        self.narrator.tell({"event": "online", "relays": []})
        self.assertEqual(
            self.console.messages,
            [
                "dwcloud serve: online; relays: http://a:1, http://b:2",
                "dwcloud serve: online; relays: none",
            ],
        )

    def test_offline(self) -> None:
        """The reason is told once, with what to do, however often it recurs."""
        for _ in range(3):
            self.narrator.tell({"event": "offline", "reason": "refused"})
        (line,) = self.console.messages
        self.assertIn("registering at the mediator failed: refused", line)
        self.assertIn("--mediator", line)

    def test_access(self) -> None:
        """What of the access needs somebody's attention, and nothing else."""
        for details in (
            {"bound": False, "streams_cut": 2},
            {"bound": True, "unchecked": True},
            {"bound": True, "streams_cut": 3},
            {"bound": True, "streams_cut": 0},
        ):
            self.narrator.tell({"event": "access", **details})
        unbound, unchecked, cut = self.console.messages
        self.assertIn("dwcloud system bind", unbound)
        self.assertIn("copy cloud.json", unchecked)
        self.assertIn("streams cut: 3", cut)

    def test_relay(self) -> None:
        """A relay is mentioned only when something is wrong with it."""
        self.narrator.tell({"event": "relay", "url": "http://a:1", "state": "ready"})
        self.narrator.tell(
            {"event": "relay", "url": "http://a:1", "state": "down", "reason": "gone"}
        )
        self.narrator.tell(
            {
                "event": "relay",
                "url": "http://a:1",
                "state": "failed",
                "reason": "relay http://a:1: full",
            }
        )
        self.assertEqual(
            self.console.messages,
            [
                "dwcloud serve: relay http://a:1 is down: gone",
                "dwcloud serve: relay http://a:1 is failed: full",
            ],
        )

    def test_refused_stream(self) -> None:
        """A client that was refused is worth a line."""
        self.narrator.tell(
            {
                "event": "stream_refused",
                "path": "udp",
                "remote_address": "192.0.2.1:5",
                "reason": "no service 'x'",
            }
        )
        self.assertIn("by udp from 192.0.2.1:5: no service", self.console.messages[0])

    def test_ordinary_streams(self) -> None:
        """Streams that come and go are not."""
        self.narrator.tell({"event": "stream_opened"})
        self.narrator.tell({"event": "stream_closed"})
        self.assertEqual(self.console.messages, [])
