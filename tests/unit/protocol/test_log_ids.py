"""What logs call a connect session."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.names import parse_guid


class LogIdTests(SynchronousTestCase):
    """The name says which session it is, and not its id."""

    def test_always_the_same(self) -> None:
        """All parties, of all releases, get the same name from an id."""
        session = uuid.UUID("0190163d-8694-8c3e-9a00-7ab7d7b42e1d")
        self.assertEqual(log_id(session), "9100ec0d-28d0-82e3-95b9-b19ea9cc58f2")

    @given(st.uuids(), st.uuids())
    def test_any_session(self, one: uuid.UUID, other: uuid.UUID) -> None:
        """It is a GUID, of this session alone, and another one than the id."""
        name = log_id(one)
        self.assertEqual(parse_guid(name).version, 8)
        self.assertNotEqual(name, str(one))
        self.assertEqual(name == log_id(other), one == other)
