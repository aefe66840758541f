"""Messages of NAT-PMP and PCP, byte by byte and with any bytes."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.port_mapping import nat_pmp, pcp
from dwcloud.protocol.port_mapping.mappings import Transport

PORTS = st.integers(0, 65535)
NUMBERS = st.integers(0, 2**32 - 1)
TRANSPORTS = st.sampled_from(Transport)
IPV4 = st.ip_addresses(v=4).map(str)
HOSTS = IPV4 | st.ip_addresses(v=6).filter(
    lambda a: ipaddress.IPv6Address(a).ipv4_mapped is None
).map(str)
NONCES = st.binary(min_size=12, max_size=12)

NAT_PMP_REQUESTS = st.just(nat_pmp.AddressRequest()) | st.builds(
    nat_pmp.MappingRequest, TRANSPORTS, PORTS, PORTS, NUMBERS
)
NAT_PMP_ANSWERS = (
    st.builds(nat_pmp.AddressAnswer, NUMBERS, IPV4)
    | st.builds(nat_pmp.MappingAnswer, NUMBERS, TRANSPORTS, PORTS, PORTS, NUMBERS)
    | st.builds(
        nat_pmp.Refusal, st.sampled_from([1, 2]), st.integers(1, 9), NUMBERS, PORTS
    )
    | st.builds(nat_pmp.Refusal, st.just(0), st.integers(1, 9), NUMBERS)
)
PCP_REQUESTS = st.builds(
    pcp.MapRequest, HOSTS, NONCES, TRANSPORTS, PORTS, PORTS, NUMBERS, HOSTS
)
PCP_ANSWERS = (
    st.builds(pcp.MapAnswer, NUMBERS, NONCES, TRANSPORTS, PORTS, PORTS, HOSTS, NUMBERS)
    | st.builds(pcp.Announcement, NUMBERS)
    | st.builds(
        pcp.Refusal,
        *(st.integers(1, 255), st.just(1), st.integers(1, 255)),
        *(NUMBERS, NUMBERS, NONCES | st.just(b"")),
    )
)


class NATPMPTests(SynchronousTestCase):
    """RFC 6886."""

    def test_on_the_wire(self) -> None:
        """The examples are the formats of sections 3.2 and 3.3."""
        self.assertEqual(nat_pmp.AddressRequest().encode(), b"\0\0")
        request = nat_pmp.MappingRequest(Transport.TCP, 0x1234, 0x5678, 3600)
        self.assertEqual(
            request.encode(), bytes.fromhex("00 02 0000 1234 5678 00000e10")
        )
        self.assertEqual(
            nat_pmp.decode_answer(bytes.fromhex("00 80 0000 00000005 c0000201")),
            nat_pmp.AddressAnswer(5, "192.0.2.1"),
        )
        self.assertEqual(
            nat_pmp.decode_answer(
                bytes.fromhex("00 81 0000 00000005 1234 5678 00000078")
            ),
            nat_pmp.MappingAnswer(5, Transport.UDP, 0x1234, 0x5678, 120),
        )

    @given(NAT_PMP_REQUESTS)
    def test_requests(self, request: nat_pmp.Request) -> None:
        """What a client sends, a router reads."""
        self.assertEqual(nat_pmp.decode_request(request.encode()), request)

    @given(NAT_PMP_ANSWERS)
    def test_answers(self, answer: nat_pmp.Answer) -> None:
        """What a router sends, a client reads."""
        self.assertEqual(nat_pmp.decode_answer(answer.encode()), answer)

    @given(st.binary(max_size=40), st.binary(max_size=20))
    def test_any_bytes(self, start: bytes, rest: bytes) -> None:
        """Anything is a message or an error of the protocol."""
        for data in (start, b"\0\x80" + start, b"\0\x82\0\0" + start, b"\0\1" + rest):
            for decode in (nat_pmp.decode_answer, nat_pmp.decode_request):
                try:
                    decode(data)
                except RemoteProtocolError:
                    continue

    def test_another_version(self) -> None:
        """A request of PCP is refused in a way that tells the version."""
        with self.assertRaises(RemoteProtocolError) as caught:
            nat_pmp.decode_request(bytes([2, 1]) + bytes(58))
        self.assertEqual(caught.exception.code, nat_pmp.UNSUPPORTED_VERSION)

    def test_words(self) -> None:
        """Result codes are told in words, unknown ones as numbers."""
        self.assertIn("no public address", nat_pmp.describe_result(3))
        self.assertIn("77", nat_pmp.describe_result(77))


class PCPTests(SynchronousTestCase):
    """RFC 6887."""

    def test_on_the_wire(self) -> None:
        """The format of sections 7.1 and 11.1."""
        request = pcp.MapRequest(
            "192.168.1.2", b"n" * 12, Transport.UDP, 0x1234, 0x5678, 3600
        )
        self.assertEqual(
            request.encode().hex(" ", 4),
            "02010000 00000e10 00000000 00000000 0000ffff c0a80102 "
            "6e6e6e6e 6e6e6e6e 6e6e6e6e 11000000 12345678 "
            "00000000 00000000 0000ffff 00000000",
        )
        self.assertEqual(len(request.encode()), 60)

    @given(PCP_REQUESTS)
    def test_requests(self, request: pcp.MapRequest) -> None:
        """What a client sends, a router reads."""
        self.assertEqual(pcp.decode_request(request.encode()), request)

    @given(PCP_ANSWERS)
    def test_answers(self, answer: pcp.Answer) -> None:
        """What a router sends, a client reads."""
        self.assertEqual(pcp.decode_answer(answer.encode()), answer)

    @given(st.binary(max_size=80), st.binary(min_size=22, max_size=80))
    def test_any_bytes(self, start: bytes, rest: bytes) -> None:
        """Anything is a message or an error of the protocol."""
        for data in (start, b"\2\1" + rest, b"\2\x81" + rest, b"\2\x80" + rest):
            for decode in (pcp.decode_answer, pcp.decode_request):
                try:
                    decode(data)
                except RemoteProtocolError:
                    continue

    def test_refused_requests(self) -> None:
        """A router tells what was wrong with a request."""
        request = pcp.MapRequest("10.0.0.2", b"n" * 12, Transport.TCP, 1, 1, 60)
        good = request.encode()
        for data, code in (
            (b"\1" + good[1:], pcp.UNSUPPORTED_VERSION),
            (good[:1] + b"\2" + good[2:], 4),
            (good[:-4], 3),
            (good + b"x", 3),
            (good[:36] + b"\x84" + good[37:], 9),
        ):
            with self.assertRaises(RemoteProtocolError) as caught:
                pcp.decode_request(data)
            self.assertEqual(caught.exception.code, code)

    def test_words(self) -> None:
        """Result codes are told in words, unknown ones as numbers."""
        self.assertIn("another NAT", pcp.describe_result(12))
        self.assertIn("99", pcp.describe_result(99))
