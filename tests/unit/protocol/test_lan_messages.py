"""Messages of LAN discovery."""

from __future__ import annotations

import json
import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.lan_messages import (
    MAX_DATAGRAM,
    LANMessage,
    LANMessageType,
    decode,
    encode,
)
from dwcloud.protocol.names import PeerName

GUIDS = st.uuids()
QUERIES = st.builds(
    LANMessage,
    st.just(LANMessageType.QUERY),
    st.none() | st.builds(PeerName, GUIDS, st.none() | GUIDS),
)
PRESENCES = st.builds(
    LANMessage,
    st.sampled_from([LANMessageType.ANNOUNCE, LANMessageType.GOODBYE]),
    st.builds(PeerName, GUIDS, GUIDS),
    st.integers(min_value=1, max_value=65535),
    GUIDS,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner)
    ),
    max_leaves=6,
)
SERVER = PeerName(uuid.UUID(int=1), uuid.UUID(int=2))
ANNOUNCE = LANMessage(LANMessageType.ANNOUNCE, SERVER, 4000, uuid.UUID(int=3))


class LANMessageTests(SynchronousTestCase):
    """JSON in one datagram."""

    @given(QUERIES | PRESENCES)
    def test_round_trip(self, message: LANMessage) -> None:
        """What is sent is read, and fits into one packet."""
        datagram = encode(message)
        self.assertLessEqual(len(datagram), MAX_DATAGRAM)
        self.assertEqual(decode(datagram), message)

    def test_on_the_wire(self) -> None:
        """The form that docs/protocol/lan.rst describes."""
        self.assertEqual(
            json.loads(encode(ANNOUNCE)),
            {
                "protocol": "dwcloud-lan/1",
                "type": "announce",
                "system": str(SERVER.system),
                "server": str(SERVER.server),
                "tcp_port": 4000,
                "instance": "00000000-0000-0000-0000-000000000003",
            },
        )
        self.assertEqual(
            json.loads(encode(LANMessage(LANMessageType.QUERY))),
            {"protocol": "dwcloud-lan/1", "type": "query"},
        )

    def changed(self, **changes: Any) -> bytes:
        """The announcement with some members changed, or removed if None."""
        body = json.loads(encode(ANNOUNCE)) | changes
        return json.dumps({k: v for k, v in body.items() if v is not None}).encode()

    def test_later_versions_may_add_members(self) -> None:
        """Members that we do not know are no reason to refuse."""
        self.assertEqual(decode(self.changed(weight=[1, {}])), ANNOUNCE)

    def test_refused(self) -> None:
        """Each member is checked."""
        for changes in (
            {"protocol": "dwcloud-lan/2"},
            {"protocol": None},
            {"type": "shout"},
            {"type": None},
            {"system": "x"},
            {"system": None},
            {"server": 5},
            {"server": None},
            {"tcp_port": 0},
            {"tcp_port": 65536},
            {"tcp_port": -1},
            {"tcp_port": True},
            {"tcp_port": 5.0},
            {"tcp_port": "5"},
            {"tcp_port": None},
            {"instance": "x"},
            {"instance": None},
        ):
            self.assertRaises(RemoteProtocolError, decode, self.changed(**changes))

    def test_too_long(self) -> None:
        """More than one packet holds is not read at all."""
        datagram = encode(ANNOUNCE)
        self.assertEqual(decode(datagram.ljust(MAX_DATAGRAM)), ANNOUNCE)
        self.assertRaises(RemoteProtocolError, decode, datagram.ljust(MAX_DATAGRAM + 1))

    @given(st.binary(max_size=MAX_DATAGRAM + 10))
    def test_any_bytes_survive(self, datagram: bytes) -> None:
        """Anything may come from the network."""
        self.assertRaises(RemoteProtocolError, decode, datagram)

    @given(
        st.dictionaries(
            st.sampled_from(
                ["protocol", "type", "system", "server", "tcp_port", "instance"]
            ),
            JSON,
        )
    )
    def test_any_members_survive(self, members: dict[str, object]) -> None:
        """A message gives what it says or the error of the protocol."""
        datagram = json.dumps(
            {"protocol": "dwcloud-lan/1", "type": "query"} | members
        ).encode()
        try:
            message = decode(datagram)
        except RemoteProtocolError:
            return
        self.assertEqual(decode(encode(message)), message)

    def test_deep_nesting(self) -> None:
        """A datagram full of brackets is refused without harm."""
        for datagram in (b"[" * MAX_DATAGRAM, b'{"a":' * 280):
            self.assertRaises(RemoteProtocolError, decode, datagram)
