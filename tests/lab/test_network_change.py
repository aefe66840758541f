"""Machines that get other addresses, lose their cable or sleep."""

from __future__ import annotations

import os
import signal
import time

from tests.lab.cloud_case import SIZE, CloudTestCase, Place
from tests.lab.processes import PATIENCE, wait_for
from tests.lab.programs import Forward, Server

_SLEEP = 9.0
"""Seconds of sleep: as long as it takes to be noticed in any case."""


class NetworkChangeTests(CloudTestCase):
    """A server and a client behind a NAT each, which are connected over UDP."""

    def setUp(self) -> None:
        """Connect them."""
        super().setUp()
        self.routers = [
            self.lab.router(f"{end}-router", "port-restricted")
            for end in ("server", "client")
        ]
        self.home, self.away = (
            Place(router.host(end), router.address, router.meter())
            for router, end in zip(self.routers, ("server", "client"), strict=True)
        )
        with self.lab.explaining():
            options = ("--no-lan", "--no-port-mapping")
            self.server = Server.start(self.home.host, self.cloud, SIZE, *options)
            self.forward = Forward(self.away.host, self.server, self.cloud, "--no-lan")
            self.check_direct()

    def check_direct(self) -> None:
        """The file comes through a hole."""
        path = self.check(self.forward, self.server, (self.home, self.away))
        self.assertEqual(path, "udp")

    def wait_online(self, count: int) -> None:
        """Wait until the server has registered so many times."""
        wait_for("registration", lambda: len(self.server.events("online")) >= count)

    def test_server(self) -> None:
        """A new address, a cable out and in, a sleep: the server is back each time."""
        router, host = self.routers[0], self.home.host
        with self.lab.explaining():
            router.renumber(host)
            self.wait_online(2)
            self.check_direct()
            router.unplug(host)
            wait_for("offline", lambda: len(self.server.events("offline")) >= 2)
            router.plug(host)
            self.wait_online(3)
            self.check_direct()
            os.kill(self.server.process.pid, signal.SIGSTOP)
            # The NAT forgets the sleeper, and the sleeper does not know of it.
            address = router.change_address()
            time.sleep(_SLEEP)
            os.kill(self.server.process.pid, signal.SIGCONT)
            self.wait_online(4)
            self.home = Place(host, address, self.home.meter)
            self.check_direct()

    def test_client(self) -> None:
        """A client with a new address, or after a cable out and in, goes on."""
        router, host = self.routers[1], self.away.host
        with self.lab.explaining():
            router.renumber(host)
            time.sleep(1.0)
            self.check_direct()
            router.unplug(host)
            time.sleep(1.0)
            router.plug(host)
            time.sleep(1.0)
            self.check_direct()
            for report in self.forward.reports():
                self.assertLess(report["connect_seconds"], PATIENCE)
