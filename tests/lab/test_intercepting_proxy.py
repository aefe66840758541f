"""A network whose router passes port 80 through Squid without telling anybody."""

from __future__ import annotations

import json
import sys

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.tunnelling.methods import METHOD_NAMES
from tests.interop.tunnel_cases import PATIENCE
from tests.lab.intercepting import intercept, require_squid
from tests.lab.namespaces import require_namespaces
from tests.lab.topology import Lab
from tests.packaging.source_tree import ROOT

PROGRAM = (sys.executable, "-m", "tests.interop.tunnel_cases")


class InterceptingProxyTests(SynchronousTestCase):
    """The client knows of no proxy, the origin sees the router alone."""

    def setUp(self) -> None:
        require_namespaces()
        require_squid()
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        self.origin = self.lab.host("origin")
        self.router = self.lab.router("office", "port-restricted")
        self.client = self.router.host("client")
        for host in (self.origin, self.client):
            host.environment["PYTHONPATH"] = str(ROOT)
        self.origin.spawn("echo", [*PROGRAM, "serve", "80"])
        self.origin.wait_until_listening(80)
        self.access = intercept(self.lab, self.router)

    def test_methods(self) -> None:
        """Upgrade is removed, bodies stream; what cannot work is found out in time."""
        with self.lab.explaining():
            words = [*PROGRAM, "try", f"http://{self.origin.address}"]
            line = self.client.run(words, 3 * PATIENCE)
            outcomes = json.loads(line)
            works = {
                method
                for method in METHOD_NAMES
                if outcomes[f"direct {method}"]["stage"] == "carries"
            }
            self.assertEqual(works, {"post", "get_post", "finite_messages"}, line)
            self.assertIn("/echo/tunnel/finite_messages", self.access.read_text())
