"""Names of systems and servers."""

from __future__ import annotations

import hashlib
import uuid

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.names import PeerName, guid_from_public_key, parse_guid

GUIDS = st.uuids()
NAMES = st.builds(PeerName, GUIDS, st.none() | GUIDS)


class GUIDTests(SynchronousTestCase):
    """GUIDs made from keys, and their text form."""

    @given(st.binary(max_size=200))
    def test_made_from_a_key(self, key: bytes) -> None:
        """A GUID is a version 8 UUID that keeps 122 bits of the key's SHA-256."""
        guid = guid_from_public_key(key)
        self.assertEqual((guid.version, guid.variant), (8, uuid.RFC_4122))
        digest = int.from_bytes(hashlib.sha256(key).digest()[:16], "big")
        kept = ~(0xF << 76 | 0x3 << 62)
        self.assertEqual(guid.int & kept, digest & kept)

    def test_other_key_other_guid(self) -> None:
        """One bit of the key changes the GUID."""
        self.assertNotEqual(guid_from_public_key(b"\0"), guid_from_public_key(b"\1"))

    @given(GUIDS, st.booleans())
    def test_read_in_either_case(self, guid: uuid.UUID, upper: bool) -> None:
        """Upper and lower case name the same."""
        text = str(guid)
        self.assertEqual(parse_guid(text.upper() if upper else text), guid)

    def test_other_forms_are_refused(self) -> None:
        """Forms that only Python knows are not GUIDs of ours, and the error helps."""
        guid = uuid.uuid4()
        wrong = ["", "x", guid.hex, guid.urn, f"{{{guid}}}", f" {guid}", f"{guid}\n"]
        for text in wrong:
            error = self.assertRaises(ValueError, parse_guid, text)
            self.assertIn("expected 36 characters", str(error))
            self.assertIn(repr(text), str(error))

    @given(st.text())
    def test_any_text_survives(self, text: str) -> None:
        """Whatever is typed gives a GUID or a ValueError."""
        try:
            guid = parse_guid(text)
        except ValueError:
            return
        self.assertEqual(str(guid), text.lower())


class PeerNameTests(SynchronousTestCase):
    """Names of servers and systems."""

    @given(NAMES, st.booleans())
    def test_round_trip(self, name: PeerName, upper: bool) -> None:
        """What is printed can be read again, in either case."""
        text = str(name).upper() if upper else str(name)
        self.assertEqual(PeerName.parse(text), name)
        self.assertEqual(len(text), 36 if name.server is None else 73)

    def test_server_comes_first(self) -> None:
        """A name reads from the special to the general, as DNS names do."""
        system, server = uuid.UUID(int=1), uuid.UUID(int=2)
        self.assertEqual(
            PeerName.parse(f"{server}.{system}"), PeerName(system=system, server=server)
        )

    def test_dns_name(self) -> None:
        """Certificates carry the name below a domain that nobody can own."""
        name = PeerName(uuid.UUID(int=1), uuid.UUID(int=2))
        self.assertEqual(name.dns_name, f"{name}.dwcloud.internal")

    @given(st.text(alphabet="0123456789abcdef-.", max_size=80) | st.text())
    def test_any_text_survives(self, text: str) -> None:
        """Whatever is typed gives a name or a ValueError with what is wrong."""
        try:
            name = PeerName.parse(text)
        except ValueError as e:
            self.assertIn("GUID", str(e))
        else:
            self.assertEqual(str(name), text.lower())

    def test_too_many_parts(self) -> None:
        """Three GUIDs are no name."""
        guid = str(uuid.uuid4())
        error = self.assertRaises(ValueError, PeerName.parse, ".".join([guid] * 3))
        self.assertIn("SERVER.SYSTEM", str(error))

    @given(NAMES, NAMES)
    def test_includes(self, one: PeerName, other: PeerName) -> None:
        """A server includes itself, a system all its servers, and nothing else."""
        self.assertTrue(one.includes(one))
        self.assertEqual(
            one.includes(other), one == other or one == PeerName(other.system)
        )
        self.assertTrue(PeerName(one.system).includes(one))
        if one.server is not None:
            self.assertFalse(one.includes(PeerName(one.system)))
