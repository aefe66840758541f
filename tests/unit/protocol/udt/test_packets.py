"""Tests of the packet codec: every captured packet, and any bytes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.udt import packets
from dwcloud.protocol.udt.handshake import Handshake, decode_peer_ip, encode_peer_ip
from dwcloud.protocol.udt.packets import (
    Ack,
    Ack2,
    ControlType,
    DataPacket,
    ErrorSignal,
    HandshakePacket,
    KeepAlive,
    MessageDropRequest,
    Nak,
    Shutdown,
    UserControl,
    decode,
)
from tests.unit.protocol.udt.vectors import VECTORS, all_datagrams

SUMMARIES = {
    HandshakePacket: "handshake",
    DataPacket: "data",
    Ack: "ack",
    Ack2: "ack2",
    Nak: "nak",
    KeepAlive: "keepalive",
    Shutdown: "shutdown",
    MessageDropRequest: "message_drop",
}

HANDSHAKE_FIELDS = {
    "version": "version",
    "socket_type": "socket_type",
    "initial_seq": "initial_sequence",
    "max_packet_size": "maximum_packet_size",
    "flow_window": "flow_window_packets",
    "request_type": "request_type",
    "socket_id": "socket_id",
    "cookie": "cookie",
}

ACK_FIELDS = {
    "ack_seq": "sequence",
    "ack_number": "ack_number",
    "rtt_us": "rtt_us",
    "rtt_var_us": "rtt_variance_us",
    "available_buffer_packets": "available_buffer_packets",
    "receive_rate_pps": "packet_arrival_speed",
    "link_capacity_pps": "estimated_link_capacity",
}

word = st.integers(0, 0xFFFFFFFF)
number = st.integers(0, 0x7FFFFFFF)


class VectorTests(SynchronousTestCase):
    """What the reference library and SRT have sent."""

    # [udt:packet-format]
    def test_fields(self) -> None:
        """Each captured packet is decoded to the fields that are known of it."""
        for vector in VECTORS["packets"]:
            packet = decode(bytes.fromhex(vector["hex"]))
            decoded = vector["decoded"]
            self.assertEqual(packet.timestamp, decoded["timestamp"], vector["name"])
            self.assertEqual(packet.destination_id, decoded["destination_id"])
            self.check_kind(packet, decoded)

    def check_kind(self, packet: packets.Packet, expected: dict[str, Any]) -> None:
        match packet:
            case HandshakePacket(handshake=handshake):
                for field, name in HANDSHAKE_FIELDS.items():
                    self.assertEqual(getattr(handshake, name), expected[field], field)
                self.assertEqual(handshake.peer_ip.hex(), expected["peer_ip_hex"])
            case DataPacket():
                self.assertEqual(packet.sequence, expected["seq"])
                self.assertEqual(packet.position >> 30, expected["position"])
                self.assertEqual(packet.in_order, bool(expected["in_order"]))
                self.assertEqual(packet.message_number, expected["message_number"])
                self.assertEqual(packet.payload.hex(), expected["payload_hex"])
            case Ack():
                form = "light" if packet.light else "full"
                if form == "full" and packet.packet_arrival_speed is None:
                    form = "short"
                self.assertEqual(form, expected["ack_form"])
                for field, name in ACK_FIELDS.items():
                    self.assertEqual(getattr(packet, name), expected.get(field), field)
            case Ack2():
                self.assertEqual(packet.ack_number, expected["ack_number"])
            case Nak():
                ranges = [list(pair) for pair in packet.ranges]
                self.assertEqual(ranges, expected["lost_ranges"])
            case MessageDropRequest():
                self.assertEqual(packet.message_number, expected["message_number"])
                self.assertEqual(packet.first, expected["first_seq"])
                self.assertEqual(packet.last, expected["last_seq"])
            case ErrorSignal():
                self.assertEqual(packet.error_code, expected["error_code"])
            case UserControl():
                self.assertEqual(packet.type, ControlType.USER)
                self.assertEqual(packet.subtype, expected["subtype"])
                self.assertEqual(packet.body.hex(), expected["body_hex"])
            case _:
                self.assertIn(expected["type_name"], ("keepalive", "shutdown"))

    def test_transcripts(self) -> None:
        """Each packet of the recorded sessions is of the kind the record says."""
        for transcript in VECTORS["transcripts"]:
            for packet in transcript["packets"]:
                kind = type(decode(bytes.fromhex(packet["hex"])))
                self.assertEqual(SUMMARIES[kind], packet["summary"])

    def test_encoded_again(self) -> None:
        """Whatever can be decoded is encoded to the same bytes."""
        exceptions = []
        for name, data in all_datagrams():
            try:
                packet = decode(data)
            except RemoteProtocolError:
                exceptions.append(name)
                continue
            if name == "nak_truncated_range":
                self.assertEqual(packet.encode(), data[:16])
            else:
                self.assertEqual(packet.encode(), data, name)
        self.assertEqual(exceptions, ["runt_15", "handshake_47"])

    def test_mixed_loss_list(self) -> None:
        """Single numbers and ranges may alternate."""
        (vector,) = [v for v in VECTORS["constructed"] if v["name"] == "nak_list_mixed"]
        nak = decode(bytes.fromhex(vector["hex"]))
        self.assertEqual(nak.ranges, ((2, 2), (6, 11), (14, 14)))


class CodecTests(SynchronousTestCase):
    """Properties of the codec."""

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are a packet or a clean error, and a packet can be encoded."""
        try:
            packet = decode(data)
        except RemoteProtocolError:
            return
        self.assertEqual(decode(packet.encode()), packet)

    @given(st.integers(0, 9), st.binary(max_size=80), word, word, word)
    def test_any_control_body(
        self, type_: int, body: bytes, information: int, stamp: int, target: int
    ) -> None:
        """Any body of any control type survives decoding."""
        header = packets.HEADER.pack(
            packets.CONTROL_FLAG | type_ << 16, information, stamp, target
        )
        try:
            packet = decode(header + body)
        except RemoteProtocolError:
            return
        self.assertEqual(packet.destination_id, target)
        self.assertEqual(decode(packet.encode()), packet)

    @given(
        number, word, st.binary(max_size=50), st.booleans(), st.integers(1, 2**29 - 1)
    )
    def test_data(
        self, sequence: int, stamp: int, payload: bytes, in_order: bool, message: int
    ) -> None:
        """A data packet keeps all its fields."""
        packet = DataPacket(
            destination_id=5,
            timestamp=stamp,
            sequence=sequence,
            payload=payload,
            position=packets.FIRST,
            in_order=in_order,
            message_number=message,
        )
        self.assertEqual(decode(packet.encode()), packet)

    @given(st.lists(st.tuples(number, number), max_size=20))
    def test_loss_list(self, ranges: list[tuple[int, int]]) -> None:
        """A loss list keeps its ranges, whatever they are."""
        encoded = packets.encode_loss_list(ranges)
        self.assertEqual(packets.decode_loss_list(encoded), tuple(ranges))

    def test_ack_of_odd_length(self) -> None:
        """An ACK of 4 to 15 bytes is a light one; longer than 24 has words to spare."""
        for size in range(4, 16):
            ack = decode(packets.HEADER.pack(0x80020000, 1, 0, 7) + bytes(size))
            self.assertTrue(ack.light)
        ack = decode(packets.HEADER.pack(0x80020000, 1, 0, 7) + bytes(28))
        self.assertEqual(ack.trailing, bytes(4))

    def test_base_is_not_a_packet(self) -> None:
        """The base class has no form on the wire."""
        self.assertRaises(TypeError, packets.Packet, destination_id=1)


class PeerIPTests(SynchronousTestCase):
    """The address field of a handshake."""

    # [udt:peer-ip]
    def test_captured(self) -> None:
        """The words are reversed as the reference library does it."""
        self.assertEqual(encode_peer_ip("127.0.0.1").hex(), "0100007f" + "00" * 12)
        self.assertEqual(encode_peer_ip("::1").hex(), "00" * 12 + "01000000")
        self.assertEqual(
            encode_peer_ip("::ffff:127.0.0.1").hex(), "00" * 8 + "ffff00000100007f"
        )

    def test_not_an_address(self) -> None:
        """A name gives zeros; a scope is left out."""
        self.assertEqual(encode_peer_ip("example"), bytes(16))
        self.assertEqual(encode_peer_ip("fe80::1%eth0"), encode_peer_ip("fe80::1"))

    @given(st.ip_addresses())
    def test_round_trip(self, address: object) -> None:
        """Every address is read back, up to those that look like IPv4."""
        text = str(address)
        decoded = decode_peer_ip(encode_peer_ip(text))
        self.assertEqual(encode_peer_ip(decoded), encode_peer_ip(text))

    def test_short_body(self) -> None:
        """A handshake needs 48 bytes."""
        self.assertRaises(RemoteProtocolError, Handshake.decode, bytes(47))
