"""What the processes of one relay say to each other."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.relaying.worker_messages import (
    Answer,
    Connection,
    Message,
    Question,
    decode,
    encode,
)

figures = st.dictionaries(
    st.text(), st.integers() | st.text() | st.dictionaries(st.text(), st.integers())
)
messages = st.one_of(
    st.builds(
        Connection,
        st.binary(),
        st.none() | st.tuples(st.text(), st.integers(0, 65535)),
        st.none() | st.binary(),
    ),
    st.builds(Question, st.integers(0), st.integers(0, 63)),
    st.builds(Answer, st.integers(0), figures),
)
nonsense = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


class MessageTests(SynchronousTestCase):
    @given(messages)
    def test_round_trip(self, message: Message) -> None:
        """What is read is what was written."""
        self.assertEqual(decode(encode(message)), message)

    @given(st.binary())
    def test_no_message(self, data: bytes) -> None:
        """Anything else is a ValueError."""
        self.assertRaises(ValueError, decode, data)

    @given(
        st.sampled_from(["connection", "question", "answer", "?"]),
        nonsense,
        nonsense,
    )
    def test_wrong_types(self, kind: str, one: object, two: object) -> None:
        """Neither do fields of other types lead to another error."""
        head = {
            "kind": kind,
            **dict.fromkeys(("peer", "number"), one),
            **dict.fromkeys(("binding", "asker", "figures"), two),
        }
        try:
            message = decode(json.dumps(head).encode())
        except ValueError as e:
            self.assertIn("between workers", str(e))
        else:
            self.assertIsInstance(message, (Connection, Question, Answer))
