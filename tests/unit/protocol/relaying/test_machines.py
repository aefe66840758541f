"""Every input in every state of the relaying machines."""

import uuid
from collections.abc import Callable
from typing import Any

from automat import NoTransition
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.client_session import SessionCore, make_client_session
from dwcloud.protocol.relaying.listening_peer import PeerCore, make_listening_peer
from dwcloud.protocol.relaying.pool_member import MemberCore, make_pool_member


class _Table(SynchronousTestCase):
    """Compares a machine with a table of what each input calls in each state."""

    calls: list[str]

    def record(self, name: str) -> Callable[..., None]:

        def called(*args: object) -> None:
            # Those of a class are given its object, which is not compared.
            numbers = [str(arg) for arg in args if not isinstance(arg, PeerCore)]
            self.calls.append(" ".join([name, *numbers]))

        return called

    def walk(
        self,
        make: Callable[[], Any],
        states: dict[str, list[tuple[Any, ...]]],
        inputs: dict[str, tuple[Any, ...]],
        table: dict[tuple[str, str], list[str]],
    ) -> None:
        for state, way in states.items():
            for name, arguments in inputs.items():
                self.calls = []
                machine = make()
                for step, *step_arguments in way:
                    getattr(machine, step)(*step_arguments)
                self.calls.clear()
                if (state, name) in table:
                    getattr(machine, name)(*arguments)
                    self.assertEqual(self.calls, table[state, name], (state, name))
                else:
                    self.assertRaises(NoTransition, getattr(machine, name), *arguments)
                    self.assertEqual(self.calls, [], (state, name))


class ListeningPeerTests(_Table):
    def make(self) -> Any:
        record = self.record

        class Recording(PeerCore):
            join = record("join")
            absence_began = record("absent")
            absence_ended = record("present")
            gone = record("gone")

        return make_listening_peer(Recording())

    def test_all_pairs(self) -> None:
        """A server without, with one and with two idle connections, and gone."""
        offer, second = ("connection_offered", 1), ("connection_offered", 2)
        self.walk(
            self.make,
            {
                "absent": [],
                "waited for": [("client_arrived", 9)],
                "one": [offer],
                "two": [offer, second],
                "gone": [("absence_timed_out",)],
            },
            {
                "connection_offered": (3,),
                "connection_lost": (1,),
                "client_arrived": (8,),
                "client_left": (9,),
                "absence_timed_out": (),
            },
            {
                ("absent", "connection_offered"): ["present"],
                ("absent", "connection_lost"): [],
                ("absent", "client_arrived"): [],
                ("absent", "client_left"): [],
                ("absent", "absence_timed_out"): ["gone"],
                ("waited for", "connection_offered"): ["present", "join 3 9", "absent"],
                ("waited for", "connection_lost"): [],
                ("waited for", "client_arrived"): [],
                ("waited for", "client_left"): [],
                ("waited for", "absence_timed_out"): ["gone"],
                ("one", "connection_offered"): [],
                ("one", "connection_lost"): ["absent"],
                ("one", "client_arrived"): ["join 1 8", "absent"],
                ("one", "client_left"): [],
                ("one", "absence_timed_out"): [],
                ("two", "connection_offered"): [],
                ("two", "connection_lost"): [],
                ("two", "client_arrived"): ["join 2 8"],
                ("two", "client_left"): [],
                ("two", "absence_timed_out"): [],
                ("gone", "connection_lost"): [],
                ("gone", "client_left"): [],
                ("gone", "absence_timed_out"): [],
            },
        )


class ClientSessionTests(_Table):
    def make(self) -> Any:
        return make_client_session(
            SessionCore(
                "id",
                PeerName(uuid.UUID(int=1)),
                idle_began=self.record("idle"),
                idle_ended=self.record("busy"),
                expired=self.record("expired"),
            )
        )

    def test_all_pairs(self) -> None:
        """A session without, with one and with two tunnels, and expired."""
        request = ("tunnel_requested",)
        self.walk(
            self.make,
            {
                "idle": [],
                "one": [request],
                "two": [request, request],
                "expired": [("idle_timed_out",)],
            },
            {"tunnel_requested": (), "tunnel_ended": (), "idle_timed_out": ()},
            {
                ("idle", "tunnel_requested"): ["busy"],
                ("idle", "idle_timed_out"): ["expired"],
                ("one", "tunnel_requested"): [],
                ("one", "tunnel_ended"): ["idle"],
                ("one", "idle_timed_out"): [],
                ("two", "tunnel_requested"): [],
                ("two", "tunnel_ended"): [],
                ("two", "idle_timed_out"): [],
                ("expired", "idle_timed_out"): [],
            },
        )


class PoolMemberTests(_Table):
    def make(self) -> Any:
        return make_pool_member(
            MemberCore(
                idle_began=self.record("idle"),
                silence_restarted=self.record("heard"),
                was_taken=self.record("taken"),
                failed=self.record("failed"),
                died=self.record("died"),
                drop=self.record("drop"),
            )
        )

    def test_all_pairs(self) -> None:
        """A connection that is being opened, that waits, and that has ended."""
        self.walk(
            self.make,
            {
                "opening": [],
                "idle": [("established",)],
                "ended": [("lost",)],
            },
            dict.fromkeys(["established", "heard", "taken", "lost", "timed_out"], ()),
            {
                ("opening", "established"): ["idle"],
                ("opening", "lost"): ["failed"],
                ("opening", "timed_out"): ["drop", "failed"],
                ("idle", "heard"): ["heard"],
                ("idle", "taken"): ["taken"],
                ("idle", "lost"): ["died"],
                ("idle", "timed_out"): ["drop", "died"],
                ("ended", "established"): [],
                ("ended", "heard"): [],
                ("ended", "taken"): [],
                ("ended", "lost"): [],
                ("ended", "timed_out"): [],
            },
        )
