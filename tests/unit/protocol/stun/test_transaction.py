"""Client transactions: retransmission, matching, authenticity."""

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.stun.attributes import STANDARD_ATTRIBUTES, error_attribute
from dwcloud.protocol.stun.binding import binding_request, binding_response
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage
from dwcloud.protocol.stun.transaction import (
    DATAGRAM_TIMING,
    STREAM_TIMING,
    ClientTransactions,
    FailureReason,
    Timing,
    TransactionAnswered,
    TransactionFailed,
)

SERVER = Address("192.0.2.1", 3345)
REQUEST = binding_request(b"transaction1")
SUCCESS = REQUEST.success()
KEY = b"key"


def run_until_quiet(
    transactions: ClientTransactions, now: float = 0.0
) -> list[tuple[float, object]]:
    """Step from timer to timer; return what was sent and what happened, and when."""
    seen: list[tuple[float, object]] = []
    while True:
        seen += [(now, datagram) for datagram in transactions.datagrams_to_send()]
        while (event := transactions.next_event()) is not None:
            seen.append((now, event))
        at = transactions.next_timer()
        if at is None:
            return seen
        now = at
        transactions.handle_timer(now=now)


class TimingTests(SynchronousTestCase):
    """When requests are sent and given up."""

    def test_datagrams(self) -> None:
        """Seven tries with doubling intervals, then 16 times the first one."""
        transactions = ClientTransactions()
        transactions.start(REQUEST, SERVER, now=0.0)
        sent = (REQUEST.encode(), SERVER)
        self.assertEqual(
            run_until_quiet(transactions),
            [(at, sent) for at in (0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5)]
            + [
                (
                    39.5,
                    TransactionFailed(REQUEST.transaction_id, FailureReason.TIMED_OUT),
                )
            ],
        )
        self.assertEqual(DATAGRAM_TIMING.total, 39.5)
        self.assertEqual(len(transactions), 0)

    def test_streams(self) -> None:
        """Sent once and given up after Ti."""
        transactions = ClientTransactions()
        transactions.start(REQUEST, SERVER, now=5.0, timing=STREAM_TIMING)
        seen = run_until_quiet(transactions, now=5.0)
        self.assertEqual([at for at, _ in seen], [5.0, 44.5])
        self.assertEqual(STREAM_TIMING.total, 39.5)

    def test_late_timer(self) -> None:
        """A timer that comes late sends once, not once for each missed time."""
        transactions = ClientTransactions()
        transactions.start(REQUEST, SERVER, now=0.0)
        transactions.datagrams_to_send()
        transactions.handle_timer(now=20.0)
        self.assertEqual(len(transactions.datagrams_to_send()), 1)
        self.assertEqual(transactions.next_timer(), 21.0)

    def test_early_timer(self) -> None:
        """A timer that comes early does nothing."""
        transactions = ClientTransactions()
        transactions.start(REQUEST, SERVER, now=0.0)
        transactions.datagrams_to_send()
        transactions.handle_timer(now=0.4)
        self.assertEqual(transactions.datagrams_to_send(), [])

    def test_cancel(self) -> None:
        """A cancelled transaction is silent."""
        transactions = ClientTransactions()
        transactions.start(REQUEST, SERVER, now=0.0)
        transactions.datagrams_to_send()
        transactions.cancel(REQUEST.transaction_id)
        transactions.cancel(REQUEST.transaction_id)
        self.assertEqual(run_until_quiet(transactions), [])
        self.assertFalse(
            transactions.receive_datagram(SUCCESS.encode(), SERVER, now=1.0)
        )


class MatchingTests(SynchronousTestCase):
    """Which answer belongs to which request."""

    def setUp(self) -> None:
        """Start one transaction."""
        self.transactions = ClientTransactions(known_attributes=STANDARD_ATTRIBUTES)
        self.transactions.start(REQUEST, SERVER, now=0.0)

    def receive(self, message: STUNMessage, source: Address = SERVER) -> bool:
        """Deliver an answer."""
        return self.transactions.receive_datagram(message.encode(), source, now=0.1)

    def test_success_and_error(self) -> None:
        """Both end the transaction; what comes afterwards belongs to nobody."""
        for answer in (SUCCESS, REQUEST.error([error_attribute(500)])):
            self.assertTrue(self.receive(answer))
            event = self.transactions.next_event()
            self.assertEqual(event, TransactionAnswered(answer))
            self.assertIsNone(self.transactions.next_event())
            self.assertIsNone(self.transactions.next_timer())
            self.assertFalse(self.receive(answer))
            self.transactions.start(REQUEST, SERVER, now=0.0)

    def test_others(self) -> None:
        """Another id, method, class or source is not the answer."""
        for answer, source in (
            (binding_request(b"transaction2").success(), SERVER),
            (
                STUNMessage(2, MessageClass.SUCCESS, REQUEST.transaction_id),
                SERVER,
            ),
            (REQUEST, SERVER),
            (
                STUNMessage(1, MessageClass.INDICATION, REQUEST.transaction_id),
                SERVER,
            ),
            (SUCCESS, Address("192.0.2.2", 3345)),
            (SUCCESS, Address("192.0.2.1", 3346)),
        ):
            self.assertFalse(self.receive(answer, source))
        self.assertTrue(self.receive(SUCCESS))

    def test_forms_of_ipv6(self) -> None:
        """An IPv6 address is the same in each of its forms."""
        request = binding_request(b"transaction2")
        self.transactions.start(request, Address("2001:DB8:0::1", 5), now=0.0)
        self.assertTrue(self.receive(request.success(), Address("2001:db8::1", 5)))
        start = self.transactions.start
        self.assertRaises(LocalProtocolError, start, request, ("::g", 5), now=0.0)
        self.assertNotIn(request.transaction_id, self.transactions)

    def test_any_source(self) -> None:
        """A request may allow an answer from elsewhere."""
        request = binding_request(b"transaction2")
        self.transactions.start(request, SERVER, now=0.0, any_source=True)
        elsewhere = Address("192.0.2.2", 3346)
        self.assertTrue(self.receive(binding_response(request, SERVER), elsewhere))

    def test_garbage(self) -> None:
        """A damaged answer is ignored; the transaction goes on."""
        raw = SUCCESS.encode(fingerprint=True)
        for damaged in (b"", raw[:-1], raw[:-1] + b"\0"):
            self.assertFalse(
                self.transactions.receive_datagram(damaged, SERVER, now=0.1)
            )
        self.assertIn(REQUEST.transaction_id, self.transactions)

    def test_unknown_attributes(self) -> None:
        """An answer that says what we must but do not understand is a failure."""
        self.assertTrue(self.receive(REQUEST.success([RawAttribute(0x7001)])))
        self.assertEqual(
            self.transactions.next_event(),
            TransactionFailed(REQUEST.transaction_id, FailureReason.UNKNOWN_ATTRIBUTES),
        )

    def test_misuse(self) -> None:
        """Ids in use, answers as requests and too many requests are refused."""
        start = self.transactions.start
        self.assertRaises(LocalProtocolError, start, REQUEST, SERVER, now=0.0)
        self.assertRaises(LocalProtocolError, start, SUCCESS, SERVER, now=0.0)
        full = ClientTransactions(capacity=0)
        self.assertRaises(LocalProtocolError, full.start, REQUEST, SERVER, now=0.0)


class IntegrityTests(SynchronousTestCase):
    """Answers to protected requests."""

    def setUp(self) -> None:
        """Start a protected transaction."""
        self.transactions = ClientTransactions()
        self.transactions.start(REQUEST, SERVER, now=0.0, integrity_key=KEY)

    def test_request_is_protected(self) -> None:
        """The key protects the request."""
        ((raw, _),) = self.transactions.datagrams_to_send()
        self.assertTrue(STUNMessage.decode(raw).verify_integrity(KEY))

    def test_genuine_after_forged(self) -> None:
        """Forged answers do not end the transaction, the genuine one does."""
        error = REQUEST.error([error_attribute(401)])
        for forged in (
            SUCCESS.encode(),
            SUCCESS.encode(integrity_key=b"other"),
            SUCCESS.encode(integrity_key=KEY, integrity_length=16),
            error.encode(integrity_key=b"other"),
            REQUEST.error([error_attribute(500)]).encode(),
            REQUEST.error([]).encode(),
            REQUEST.error([RawAttribute(9, b"?")]).encode(),
        ):
            self.transactions.receive_datagram(forged, SERVER, now=0.1)
            self.assertIsNone(self.transactions.next_event())
        genuine = SUCCESS.encode(integrity_key=KEY)
        self.transactions.receive_datagram(genuine, SERVER, now=0.1)
        self.assertEqual(self.transactions.next_event(), TransactionAnswered(SUCCESS))

    def test_only_forged(self) -> None:
        """When nothing else came the reason says so."""
        self.transactions.receive_datagram(SUCCESS.encode(), SERVER, now=0.1)
        _, event = run_until_quiet(self.transactions)[-1]
        self.assertEqual(
            event, TransactionFailed(REQUEST.transaction_id, FailureReason.INTEGRITY)
        )

    def test_unsigned_challenge(self) -> None:
        """A server that could not check the request cannot sign its refusal."""
        for code in (400, 401, 438):
            error = REQUEST.error([error_attribute(code)])
            self.transactions.receive_datagram(error.encode(), SERVER, now=0.1)
            self.assertEqual(self.transactions.next_event(), TransactionAnswered(error))
            self.transactions.start(REQUEST, SERVER, now=0.0, integrity_key=KEY)


class TransactionsMachine(RuleBasedStateMachine):
    """Any order of events: each transaction ends exactly once, and in time."""

    def __init__(self) -> None:
        super().__init__()
        self.transactions = ClientTransactions(capacity=4)
        self.now = 0.0
        self.pending: dict[bytes, float] = {}

    @rule(number=st.integers(0, 5), tries=st.integers(1, 4))
    def start(self, number: int, tries: int) -> None:
        """Start, unless the id is in use or the object is full."""
        request = binding_request(bytes([number]) * 12)
        timing = Timing(tries, 0.5, 2.0)
        try:
            self.transactions.start(request, SERVER, now=self.now, timing=timing)
        except LocalProtocolError:
            in_use = request.transaction_id in self.pending
            assert in_use or len(self.pending) == 4
        else:
            self.pending[request.transaction_id] = self.now + timing.total

    @rule(number=st.integers(0, 5))
    def answer(self, number: int) -> None:
        """An answer comes, wanted or not."""
        raw = binding_request(bytes([number]) * 12).success().encode()
        taken = self.transactions.receive_datagram(raw, SERVER, now=self.now)
        assert taken == (bytes([number]) * 12 in self.pending)
        self.collect()

    @rule(number=st.integers(0, 5))
    def cancel(self, number: int) -> None:
        """The caller loses interest."""
        self.transactions.cancel(bytes([number]) * 12)
        self.pending.pop(bytes([number]) * 12, None)

    @rule(data=st.binary(max_size=40))
    def garbage(self, data: bytes) -> None:
        """Something else comes."""
        self.transactions.receive_datagram(data, SERVER, now=self.now)

    @rule()
    def timer(self) -> None:
        """The time of the next timer comes."""
        at = self.transactions.next_timer()
        if at is not None:
            assert at > self.now
            self.now = at
            self.transactions.handle_timer(now=at)
            self.collect()

    def collect(self) -> None:
        """Take the events; each ends one pending transaction."""
        while (event := self.transactions.next_event()) is not None:
            if isinstance(event, TransactionAnswered):
                del self.pending[event.message.transaction_id]
            else:
                assert self.pending.pop(event.transaction_id) == self.now

    @invariant()
    def agrees(self) -> None:
        """Nobody is forgotten: a timer runs exactly while something is pending."""
        assert len(self.transactions) == len(self.pending)
        assert (self.transactions.next_timer() is None) == (not self.pending)


class StateMachineTests(SynchronousTestCase):
    """Random walks."""

    def test_random_walks(self) -> None:
        """See TransactionsMachine."""
        run_state_machine_as_test(TransactionsMachine)
