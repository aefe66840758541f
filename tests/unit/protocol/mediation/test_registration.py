"""Registration and admission together: proofs, replays, takeovers."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.admission import (
    MAX_CHALLENGES,
    NONCE_LIFETIME,
    Admission,
    ControlConnection,
    ProvenListen,
    admission_machine,
)
from dwcloud.protocol.mediation.attributes import SIGNATURE
from dwcloud.protocol.mediation.messages import (
    PROTOCOL_VERSION,
    Bind,
    GetConnectionState,
    Listen,
    ListenResponse,
)
from dwcloud.protocol.mediation.parameters import ConnectionParameters, KeepAlive
from dwcloud.protocol.mediation.proof import add_proof, verify_proof
from dwcloud.protocol.mediation.registration import (
    Registration,
    answer_received,
    registration_machine,
)
from dwcloud.protocol.stun.attributes import AttributeType, decode_error_code
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage
from dwcloud.protocol.stun.sealing import SequencedSealing, Unsealed
from tests.unit.protocol.mediation.control_pair import (
    OTHER,
    SERVER,
    ControlPair,
    credentials,
    verify,
)
from tests.unit.protocol.mediation.machine_walk import state_of, walk

TRANSACTION = b"transactions"


def listen(name=SERVER, key: bytes = b"k" * 32, version: int = PROTOCOL_VERSION):  # type: ignore[no-untyped-def]
    """Return a ``listen`` without a proof."""
    return Listen(name=name, protocol_version=version, public_key=key).to_stun(
        TRANSACTION
    )


def code_of(answer: STUNMessage) -> int:
    """Return the code of an error answer."""
    return decode_error_code(answer.require(AttributeType.ERROR_CODE)).code


class RegistrationTests(SynchronousTestCase):
    """Both ends together."""

    def test_registered(self) -> None:
        """Two round trips, and both ends protect what follows."""
        pair = ControlPair()
        pair.server.connection_made()
        self.assertEqual(pair.listening, [SERVER])
        self.assertEqual(len(pair.registered), 1)
        self.assertEqual(len(pair.sent_by_server), 2)
        self.assertEqual(pair.mediator.name, SERVER)
        for sealing in (pair.server_sealing, pair.mediator_sealing):
            self.assertIsInstance(sealing, SequencedSealing)

    def test_sealed_requests(self) -> None:
        """Requests that follow need no proof."""
        pair = ControlPair()
        pair.server.connection_made()
        bind = Bind(uplink_rate=7)
        pair.server_sends(bind.to_stun(TRANSACTION))
        self.assertEqual(pair.bound, [bind])
        pair.server_sends(GetConnectionState().to_stun(TRANSACTION))
        self.assertIs(pair.answers[-1].message_class, MessageClass.SUCCESS)

    def test_nothing_can_be_inserted(self) -> None:
        """What is not sealed, changed or repeated does not get in."""
        pair = ControlPair()
        pair.server.connection_made()
        pair.server_sends(Bind().to_stun(TRANSACTION))
        repeated = pair.sent_by_server[-1]
        self.assertRaises(RemoteProtocolError, pair.mediator_receives, repeated)
        foreign = Bind(uplink_rate=1).to_stun(TRANSACTION).encode()
        self.assertRaises(RemoteProtocolError, pair.mediator_receives, foreign)
        pair.deliver = False
        pair.server_sends(Bind().to_stun(TRANSACTION))
        changed = bytearray(pair.sent_by_server[-1])
        changed[-1] ^= 1
        self.assertRaises(RemoteProtocolError, pair.mediator_receives, bytes(changed))
        self.assertEqual(len(pair.bound), 1)

    def test_not_reflected(self) -> None:
        """What the mediator sent cannot be sent back to it: the keys differ."""
        pair = ControlPair()
        pair.server.connection_made()
        raw = pair.mediator_sealing.seal(Bind().to_stun(TRANSACTION))
        self.assertRaises(RemoteProtocolError, pair.mediator_receives, raw)

    def test_bound_to_the_tls_connection(self) -> None:
        """A proof that was relayed from another TLS connection does not hold."""
        pair = ControlPair(bindings=(b"his", b"mine"))
        pair.server.connection_made()
        self.assertEqual(pair.listening, [])
        self.assertEqual(pair.refused[0][0], 401)

    def test_refused(self) -> None:
        """The operator's policy is told to the server."""
        for code in (403, 503):
            pair = ControlPair()
            pair.refuse = code
            pair.server.connection_made()
            self.assertEqual(pair.listening, [])
            self.assertEqual([c for c, _ in pair.refused], [code])

    def test_wrong_answer(self) -> None:
        """An answer of somebody without the keys does not count."""
        pair = ControlPair()
        pair.deliver = False
        pair.server.connection_made()
        pair.server.challenge_received(b"nonce")
        forged = ListenResponse(
            public_key=b"x" * 32,
            keep_alive=KeepAlive(),
            parameters=ConnectionParameters(),
        )
        answer = STUNMessage.decode(forged.to_stun(TRANSACTION).encode())
        answer_received(pair.server, answer)
        self.assertEqual(pair.registered, [])
        self.assertEqual(pair.refused[0][0], 401)
        self.assertIsInstance(pair.server_sealing, Unsealed)

    def test_error_without_code(self) -> None:
        """An error answer that says nothing is a refusal."""
        pair = ControlPair()
        pair.deliver = False
        pair.server.connection_made()
        answer_received(pair.server, listen().error([]))
        self.assertEqual(pair.refused[0][0], 400)

    def test_asked_for_no_proof(self) -> None:
        """A mediator that takes anybody is none."""
        pair = ControlPair()
        pair.deliver = False
        pair.server.connection_made()
        answer_received(pair.server, listen().success())
        self.assertEqual(pair.refused[0][0], 400)


class ProofTests(SynchronousTestCase):
    """What a mediator takes as a proof."""

    def setUp(self) -> None:
        self.pair = ControlPair()
        self.pair.deliver = False

    def challenge(self) -> bytes:
        """Ask without a proof and return the nonce."""
        self.receive(listen())
        answer = self.pair.answers[-1]
        self.assertEqual(code_of(answer), 401)
        return answer.require(AttributeType.NONCE)

    def receive(self, message: STUNMessage) -> None:
        self.pair.mediator.receive_request(message, now=self.pair.now)

    def prove(self, message: STUNMessage, nonce: bytes, name=SERVER) -> STUNMessage:  # type: ignore[no-untyped-def]
        theirs = credentials(name)
        return add_proof(
            message,
            nonce=nonce,
            certificates=theirs.certificates,
            sign=theirs.sign,
            channel_binding=b"",
        )

    def assert_refused(self, code: int) -> None:
        self.assertEqual(self.pair.listening, [])
        self.assertEqual(code_of(self.pair.answers[-1]), code)

    def test_replay(self) -> None:
        """A recorded registration is refused: on this connection and on another."""
        proven = self.prove(listen(), self.challenge())
        self.receive(proven)
        self.assertEqual(self.pair.listening, [SERVER])
        another = ControlPair(first=100)
        another.deliver = False
        another.mediator.receive_request(proven, now=0.0)
        self.assertEqual(another.listening, [])
        self.assertEqual(code_of(another.answers[-1]), 401)
        # Also where that connection has a nonce of its own.
        another.mediator.receive_request(proven, now=0.0)
        self.assertEqual(another.listening, [])

    def test_nonce_is_single_use(self) -> None:
        """A proof that failed has used up its nonce."""
        nonce = self.challenge()
        self.receive(self.prove(listen(OTHER), nonce, SERVER))
        self.assert_refused(401)
        self.receive(self.prove(listen(), nonce))
        self.assert_refused(401)

    def test_nonce_expires(self) -> None:
        """A nonce is good for a minute."""
        nonce = self.challenge()
        self.pair.now = NONCE_LIFETIME
        self.receive(self.prove(listen(), nonce))
        self.assert_refused(401)

    def test_takeover(self) -> None:
        """A server cannot register under another's name."""
        self.receive(self.prove(listen(SERVER), self.challenge(), OTHER))
        self.assert_refused(401)
        self.assertIsNone(self.pair.mediator.name)

    def test_stolen_certificate(self) -> None:
        """A certificate without its key proves nothing."""
        proven = add_proof(
            listen(),
            nonce=self.challenge(),
            certificates=credentials(SERVER).certificates,
            sign=credentials(OTHER).sign,
            channel_binding=b"",
        )
        self.receive(proven)
        self.assert_refused(401)

    def test_changed_message(self) -> None:
        """The signature covers the whole message."""
        proven = self.prove(listen(), self.challenge())
        changed = attrs.evolve(
            proven,
            attributes=(
                *listen(key=b"z" * 32).attributes,
                *proven.attributes[3:],
            ),
        )
        self.receive(changed)
        self.assert_refused(401)

    def test_added_attribute(self) -> None:
        """Nothing may stand behind the signature."""
        proven = self.prove(listen(), self.challenge())
        self.receive(proven.with_attributes(RawAttribute(0xC777, b"")))
        self.assert_refused(400)

    def test_old_version(self) -> None:
        """A server that speaks an older version is told so."""
        self.receive(self.prove(listen(version=0), self.challenge()))
        self.assert_refused(400)

    def test_bad_public_key(self) -> None:
        """A public key that is none is refused before anything changes."""
        self.receive(self.prove(listen(key=bytes(32)), self.challenge()))
        self.assert_refused(400)
        self.assertIsInstance(self.pair.mediator_sealing, Unsealed)

    def test_bind_before_listen(self) -> None:
        """A bind with a proof is taken, and makes the connection that server's."""
        bind = Bind(uplink_rate=1)
        self.receive(self.prove(bind.to_stun(TRANSACTION), self.challenge()))
        self.assertEqual(self.pair.bound, [bind])
        self.receive(self.prove(listen(OTHER), self.challenge(), OTHER))
        self.assert_refused(400)
        self.receive(self.prove(listen(), self.challenge()))
        self.assertEqual(self.pair.listening, [SERVER])

    def test_challenges_are_bounded(self) -> None:
        """One connection cannot make the mediator check proofs for ever."""
        for _ in range(MAX_CHALLENGES):
            self.challenge()
        self.receive(listen())
        answer = self.pair.answers[-1]
        self.assertEqual(code_of(answer), 401)
        self.assertIsNone(answer.get(AttributeType.NONCE))

    def test_malformed(self) -> None:
        """Malformed requests get 400, unknown attributes 420."""
        self.receive(listen().with_attributes(RawAttribute(0x7777, b"")))
        self.assert_refused(420)
        empty = STUNMessage(listen().method, MessageClass.REQUEST, TRANSACTION)
        self.receive(empty)
        self.assert_refused(400)

    @given(st.binary(max_size=40), st.binary(max_size=40))
    def test_any_proof(self, signature: bytes, nonce: bytes) -> None:
        """Whatever stands for a proof, it is refused with an answer."""
        pair = ControlPair()
        pair.deliver = False
        forged = listen().with_attributes(
            RawAttribute(AttributeType.NONCE, nonce),
            RawAttribute(SIGNATURE.number, signature),
        )
        pair.mediator.receive_request(forged, now=0.0)
        self.assertEqual(pair.listening, [])
        self.assertEqual(len(pair.answers), 1)

    def test_parts_do_not_run_together(self) -> None:
        """Nonce and channel binding cannot be shifted against each other."""
        theirs = credentials()
        proven = add_proof(
            listen(),
            nonce=b"ab",
            certificates=theirs.certificates,
            sign=theirs.sign,
            channel_binding=b"c",
        )
        self.assertEqual(
            verify_proof(proven, verify=verify, channel_binding=b"c"), SERVER
        )
        self.assertRaises(
            RemoteProtocolError,
            verify_proof,
            proven,
            verify=verify,
            channel_binding=b"bc",
        )


class RegistrationWalk(SynchronousTestCase):
    """Each input in each state, server's side."""

    def make(self, *steps: str) -> Registration:
        """Return a machine after some inputs."""
        pair = ControlPair()
        pair.deliver = False
        machine = registration_machine(pair.server_core)
        for step in steps:
            self.INPUTS[step](machine)
        return machine

    INPUTS = {
        "made": lambda m: m.connection_made(),
        "challenge": lambda m: m.challenge_received(b"n"),
        "success": lambda m: m.success_received(listen().success()),
        "refusal": lambda m: m.refusal_received(403, "no"),
        "lost": lambda m: m.connection_lost(),
    }

    def test_walk(self) -> None:
        """The table of transitions, whole."""
        reach = {
            "fresh": lambda: self.make(),
            "asking": lambda: self.make("made"),
            "proving": lambda: self.make("made", "challenge"),
            "registered": lambda: self.make("made", "challenge", "success"),
            "refused": lambda: self.make("made", "refusal"),
            "lost": lambda: self.make("lost"),
        }
        moves = {
            ("fresh", "made"): "asking",
            ("asking", "challenge"): "proving",
            ("asking", "success"): "refused",
            ("asking", "refusal"): "refused",
            ("proving", "challenge"): "refused",
            ("proving", "success"): "registered",
            ("proving", "refusal"): "refused",
        }
        for (state, given_input), after in walk(reach, self.INPUTS).items():
            expected = moves.get((state, given_input), state)
            if given_input == "lost":
                expected = "lost"
            self.assertEqual(after, expected, (state, given_input))


class AdmissionWalk(SynchronousTestCase):
    """Each input in each state, mediator's side."""

    def make(self, *steps: str) -> Admission:
        """Return a machine after some inputs."""
        pair = ControlPair()
        pair.deliver = False
        machine = admission_machine(pair.mediator_core)
        for step in steps:
            self.INPUTS[step](machine)
        self.answers = pair.answers
        return machine

    PROVEN = ProvenListen(SERVER, b"p" * 32, Unsealed())
    INPUTS = {
        "bind": lambda m: m.bind_received(Bind().to_stun(TRANSACTION), Bind(), 0.0),
        "listen": lambda m: m.listen_received(listen(), 0.0),
        "failed": lambda m: m.proof_failed(listen(), 0.0),
        "bind proven": lambda m: m.bind_proven(
            Bind().to_stun(TRANSACTION), Bind(), SERVER
        ),
        "listen proven": lambda m: m.listen_proven(listen(), AdmissionWalk.PROVEN),
        "state": lambda m: m.state_requested(listen(), 0.0),
        "closed": lambda m: m.closed(),
    }

    def test_walk(self) -> None:
        """The table of transitions, whole."""
        reach = {
            "anonymous": lambda: self.make(),
            "listening": lambda: self.make("listen proven"),
            "closed": lambda: self.make("closed"),
        }
        for (state, given_input), after in walk(reach, self.INPUTS).items():
            expected = state
            if given_input == "closed":
                expected = "closed"
            elif (state, given_input) == ("anonymous", "listen proven"):
                expected = "listening"
            self.assertEqual(after, expected, (state, given_input))

    def test_one_answer_each(self) -> None:
        """Each request has exactly one answer, until the connection is closed."""
        for steps, count in (((), 1), (("listen proven",), 2), (("closed",), 0)):
            for name, give in self.INPUTS.items():
                if name == "closed":
                    continue
                machine = self.make(*steps)
                give(machine)
                self.assertEqual(len(self.answers), count, (steps, name))

    def test_state_name(self) -> None:
        """The walk looks at the states of the machine."""
        self.assertEqual(state_of(self.make()), "anonymous")


class CloseTests(SynchronousTestCase):
    """The end of a control connection."""

    def test_nothing_after_close(self) -> None:
        """A closed connection answers nothing any more."""
        pair = ControlPair()
        pair.deliver = False
        connection: ControlConnection = pair.mediator
        connection.close()
        connection.receive_request(listen(), now=0.0)
        self.assertEqual(pair.answers, [])
