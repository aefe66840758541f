"""Probes on the wire."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.attributes import KINDS
from dwcloud.protocol.mediation.methods import Method
from dwcloud.protocol.punching.probes import (
    METHOD,
    PROBE,
    PROBE_LENGTH,
    Probe,
    ProbeCodec,
    punch_key,
    tag_of,
)

KEY = punch_key(bytes(16), uuid.UUID(int=1))
HELLOS = st.binary(min_size=12, max_size=12)
PROBES = st.builds(Probe, HELLOS, HELLOS, st.booleans())


class ProbeTests(SynchronousTestCase):
    """What is taken for a probe, and what is not."""

    def setUp(self) -> None:
        self.client = ProbeCodec(KEY, from_server=False)
        self.server = ProbeCodec(KEY, from_server=True)

    @given(PROBES, st.booleans())
    def test_round_trip(self, probe: Probe, up: bool) -> None:
        """Each end reads what the other says; all probes are equally long."""
        one, other = (
            ProbeCodec(KEY, from_server=up),
            ProbeCodec(KEY, from_server=not up),
        )
        datagram = one.encode(probe)
        self.assertEqual(len(datagram), PROBE_LENGTH)
        self.assertEqual(tag_of(datagram), one.tag)
        self.assertEqual(other.decode(datagram), probe)

    def test_own(self) -> None:
        """A probe that comes back to its sender says nothing."""
        datagram = self.client.encode(Probe(bytes(12)))
        self.assertRaises(RemoteProtocolError, self.client.decode, datagram)

    def test_other_session(self) -> None:
        """The key belongs to one session."""
        key = punch_key(bytes(16), uuid.UUID(int=2))
        stranger = ProbeCodec(key, from_server=False)
        self.assertNotEqual(stranger.tag, self.server.tag)
        datagram = stranger.encode(Probe(bytes(12)))
        self.assertRaises(RemoteProtocolError, self.server.decode, datagram)

    @given(PROBES, st.integers(0, PROBE_LENGTH * 8 - 1))
    def test_one_bit(self, probe: Probe, bit: int) -> None:
        """A probe of which one bit was changed is none."""
        datagram = bytearray(self.client.encode(probe))
        datagram[bit // 8] ^= 1 << bit % 8
        self.assertRaises(RemoteProtocolError, self.server.decode, bytes(datagram))

    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes is refused in good order."""
        tag_of(data)
        self.assertRaises(RemoteProtocolError, self.server.decode, data)

    def test_numbers(self) -> None:
        """Probes share their numbers with nothing of mediation."""
        self.assertNotIn(METHOD, set(Method))
        self.assertNotIn(PROBE, KINDS)
