"""Systems by the names that people give them."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import SystemUnknown
from dwcloud.peer.api_values import ServerState, System
from dwcloud.peer.system_names import IN_USE, SystemReference, read_reference
from dwcloud.protocol.names import PeerName

GUID = "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"


def system(number: int, name: str, owner: str = "anna", *servers: str) -> System:
    """A system with servers."""
    states = tuple(ServerState(uuid.UUID(each), True) for each in servers)
    return System(uuid.UUID(int=number), name, owner, "viewer", servers=states)


SYSTEMS = (
    system(1, "garage", "anna", GUID, f"{GUID[:-1]}e", f"a{GUID[1:]}"),
    system(2, "cellar"),
    system(3, "cellar", "bert"),
    system(4, "beef.garage", "bert"),
    system(5, "a.b-c_d"),
)


class ReadingTests(SynchronousTestCase):
    """What a person types."""

    def test_guids(self) -> None:
        """GUIDs are what they always were."""
        for text in (GUID, f"{GUID}.{GUID}", GUID.upper()):
            self.assertEqual(read_reference(text), PeerName.parse(text))

    def test_names(self) -> None:
        """Case does not matter, and an owner may stand before."""
        self.assertEqual(read_reference("Garage"), SystemReference("", "garage"))
        self.assertEqual(read_reference("Anna/x.y"), SystemReference("anna", "x.y"))
        self.assertEqual(read_reference("."), IN_USE)

    def test_server_before_a_name(self) -> None:
        """A server's GUID, or its beginning, may stand before the system's name."""
        for text in (f"{GUID}.garage", "0190163d.garage", f"{GUID[:13]}.garage"):
            self.assertEqual(read_reference(text), SystemReference("", text))

    def test_mistyped_guids(self) -> None:
        """A GUID with a mistake is not taken for a name."""
        for text in (GUID[:-1], f"{GUID}0", f"{GUID}.{GUID[:-1]}"):
            error = self.assertRaises(ValueError, read_reference, text)
            self.assertIn("GUID", str(error))

    def test_refused(self) -> None:
        """What is no name is told so, with what would be one."""
        for text in (
            "",
            "a b",
            "/garage",
            "anna/",
            "a/b/c",
            "-x",
            "ü",
            "x" * 200,
            "..",
        ):
            error = self.assertRaises(ValueError, read_reference, text)
            self.assertIn("such as garage or anna/garage", str(error))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever is typed is read, and means the same when printed; or is refused."""
        try:
            read = read_reference(text)
        except ValueError:
            return
        self.assertEqual(read_reference(str(read)), read)


class FindingTests(SynchronousTestCase):
    """Which system is meant."""

    def find(self, text: str) -> PeerName:
        """Find it."""
        return SystemReference.parse(text).find(SYSTEMS)

    def unknown(self, text: str) -> str:
        """Why it is not found."""
        return str(self.assertRaises(SystemUnknown, self.find, text))

    def test_one(self) -> None:
        """A name that only one system has."""
        self.assertEqual(self.find("GARAGE"), PeerName(uuid.UUID(int=1)))
        self.assertEqual(self.find("a.b-c_d"), PeerName(uuid.UUID(int=5)))

    def test_of_one_owner(self) -> None:
        """A name that several have needs the owner."""
        self.assertIn("any of anna/cellar, bert/cellar", self.unknown("cellar"))
        self.assertEqual(self.find("bert/cellar"), PeerName(uuid.UUID(int=3)))

    def test_none(self) -> None:
        """The error tells what there is."""
        self.assertIn("anna/cellar, anna/garage", self.unknown("attic"))
        self.assertIn("anna/cellar", self.unknown("bert/garage"))

    def test_server(self) -> None:
        """The beginning of a server's GUID is enough if only one begins so."""
        wanted = PeerName(uuid.UUID(int=1), uuid.UUID(f"a{GUID[1:]}"))
        self.assertEqual(self.find("a190.garage"), wanted)
        self.assertEqual(self.find("anna/a190.garage"), wanted)
        self.assertIn("more than one server", self.unknown("0190.garage"))
        self.assertIn("no server", self.unknown("ffff.garage"))

    def test_whole_name_first(self) -> None:
        """What is the name of a system is not cut up."""
        self.assertEqual(self.find("beef.garage"), PeerName(uuid.UUID(int=4)))
