"""Protection of the messages of one connection."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.stun.message import RawAttribute, STUNMessage
from dwcloud.protocol.stun.sealing import SequencedSealing, Unsealed
from tests.unit.protocol.stun.strategies import messages

SEQUENCE = 0x4D0C
MESSAGE = STUNMessage.decode(bytes.fromhex("000100002112a442") + bytes(12))


def pair() -> tuple[SequencedSealing, SequencedSealing]:
    """Return the sealings of both ends."""
    return (
        SequencedSealing(b"there", b"back", SEQUENCE),
        SequencedSealing(b"back", b"there", SEQUENCE),
    )


class UnsealedTests(SynchronousTestCase):
    """No protection."""

    @given(messages)
    def test_round_trip(self, message: STUNMessage) -> None:
        """The message goes through as it is."""
        sealing = Unsealed()
        self.assertEqual(sealing.open(sealing.seal(message)), message)


class SequencedSealingTests(SynchronousTestCase):
    """Keys and numbers."""

    @given(
        st.lists(messages.filter(lambda sent: sent.get(SEQUENCE) is None), max_size=4)
    )
    def test_in_order(self, sent: list[STUNMessage]) -> None:
        """What one end seals the other opens, in both directions."""
        near, far = pair()
        for message in sent:
            for sender, receiver in ((near, far), (far, near)):
                opened = receiver.open(sender.seal(message))
                self.assertEqual(opened.attributes[:-1], message.attributes)

    def refused(self, sealing: SequencedSealing, raw: bytes, code: int) -> None:
        """Check that a message is refused."""
        error = self.assertRaises(RemoteProtocolError, sealing.open, raw)
        self.assertEqual(error.code, code)

    def test_gaps_are_allowed(self) -> None:
        """A message that was sealed but not sent does no harm."""
        near, far = pair()
        near.seal(MESSAGE)
        far.open(near.seal(MESSAGE))

    def test_sealed_twice(self) -> None:
        """A received message cannot be sent on with its old number."""
        near, far = pair()
        opened = far.open(near.seal(MESSAGE))
        self.assertRaises(LocalProtocolError, far.seal, opened)

    def test_replay(self) -> None:
        """A message is accepted once."""
        near, far = pair()
        first, second = near.seal(MESSAGE), near.seal(MESSAGE)
        far.open(second)
        self.refused(far, second, 400)
        self.refused(far, first, 400)

    def test_reflection(self) -> None:
        """A message is not accepted by its author."""
        near, _ = pair()
        self.refused(near, near.seal(MESSAGE), 401)

    def test_forgery(self) -> None:
        """Other keys, no key and no number are refused, and change nothing."""
        near, far = pair()
        self.refused(far, MESSAGE.encode(), 401)
        self.refused(far, MESSAGE.encode(integrity_key=b"other"), 401)
        self.refused(far, MESSAGE.encode(integrity_key=b"there"), 400)
        long = MESSAGE.with_attributes(RawAttribute(SEQUENCE, bytes(8) + b"\1"))
        self.refused(far, long.encode(integrity_key=b"there"), 400)
        short = near.seal(MESSAGE)[:-1]
        self.refused(far, short, 400)
        far.open(near.seal(MESSAGE))
