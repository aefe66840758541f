"""What the meters of the lab count, while much goes on."""

from __future__ import annotations

import socket
import threading

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.namespaces import require_namespaces
from tests.lab.topology import Lab

_PORTS = range(10000, 16000)
_OCTETS = 100
_HEADERS = 28


class MeterTests(SynchronousTestCase):
    """A meter that is read while packets pass to ports that it has not seen."""

    def setUp(self) -> None:
        """Connect two hosts."""
        require_namespaces()
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        self.host, self.other = self.lab.host("host"), self.lab.host("other")

    def send(self) -> None:
        """Send one packet to each port."""
        with self.host.socket(socket.SOCK_DGRAM) as sender:
            for port in _PORTS:
                sender.sendto(bytes(_OCTETS), (self.other.address, port))

    def test_each_octet_once(self) -> None:
        """No reading has an octet twice, and none lacks what an earlier one had."""
        meter = self.host.meter()
        sending = threading.Thread(target=self.send)
        sending.start()
        self.addCleanup(sending.join)
        readings = [meter.read()]
        while sending.is_alive():
            readings.append(meter.read())
        sending.join()
        readings.append(meter.read())
        packet = _OCTETS + _HEADERS
        known: set[tuple[str, str, int]] = set()
        for number, reading in enumerate(readings):
            wrong = {k: o for k, o in reading.octets.items() if o != packet}
            self.assertEqual(wrong, {}, f"reading {number}")
            missing = known - set(reading.octets)
            self.assertEqual(missing, set(), f"reading {number}")
            known |= set(reading.octets)
        self.assertEqual(len(known), len(_PORTS))
