"""Both sides' machines: every state with every input."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from automat import NoTransition
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.opening.client import (
    ClientOpening,
    ClientOpeningCore,
    client_opening_machine,
)
from dwcloud.protocol.opening.messages import (
    Open,
    Ready,
    RefusalCode,
    Refused,
    Start,
    Started,
)
from dwcloud.protocol.opening.server import (
    ServerOpening,
    ServerOpeningCore,
    server_opening_machine,
)

SESSION = uuid.UUID(int=1)
REFUSED = Refused(RefusalCode.UNKNOWN_SESSION, "no")

Input = Callable[[Any], object]
Table = dict[str, dict[str, tuple[str, list[object]]]]
"""State and input to the next state and what happens; all else is refused."""


def walk(
    case: SynchronousTestCase,
    make: Callable[[], tuple[Any, list[object]]],
    inputs: dict[str, Input],
    table: Table,
    initial: str,
) -> None:
    """Check every pair of state and input against ``table``."""
    routes: dict[str, list[str]] = {initial: []}
    queue = [initial]
    while queue:
        state = queue.pop(0)
        for name in inputs:
            machine, log = make()
            for step in routes[state]:
                inputs[step](machine)
            log.clear()
            expected = table[state].get(name)
            if expected is None:
                case.assertRaises(NoTransition, inputs[name], machine)
                case.assertEqual(log, [], f"{state}, {name}")
                continue
            inputs[name](machine)
            case.assertEqual(log, expected[1], f"{state}, {name}")
            if expected[0] not in routes:
                routes[expected[0]] = [*routes[state], name]
                queue.append(expected[0])
    case.assertEqual(set(routes), set(table), "states that cannot be reached")


class ClientMachineTests(SynchronousTestCase):
    """The client's side."""

    INPUTS: dict[str, Input] = {
        "connected": lambda m: m.path_connected(),
        "start": lambda m: m.start_requested("web"),
        "ready": lambda m: m.ready_received(),
        "started": lambda m: m.started_received(),
        "refused": lambda m: m.refused_received(REFUSED),
    }
    TABLE: Table = {
        "fresh": {"connected": ("opening", [Open(SESSION, "me")])},
        "opening": {
            "ready": ("ready", ["ready"]),
            "start": ("starting early", [Start("web")]),
            "refused": ("refused", [REFUSED]),
        },
        "starting early": {
            "ready": ("starting", ["ready"]),
            "refused": ("refused", [REFUSED]),
        },
        "ready": {"start": ("starting", [Start("web")])},
        "starting": {
            "started": ("started", ["started"]),
            "refused": ("refused", [REFUSED]),
        },
        "started": {},
        "refused": {},
    }

    def make(self) -> tuple[ClientOpening, list[object]]:
        """A fresh machine and the record of what it does."""
        log: list[object] = []
        core = ClientOpeningCore(
            Open(SESSION, "me"),
            log.append,
            lambda: log.append("ready"),
            lambda: log.append("started"),
            log.append,
        )
        return client_opening_machine(core), log

    def test_every_pair(self) -> None:
        """Each input does in each state what the table says, or is refused."""
        walk(self, self.make, self.INPUTS, self.TABLE, "fresh")

    def test_refused_inputs_change_nothing(self) -> None:
        """A message out of turn leaves the machine where it was."""
        machine, log = self.make()
        machine.path_connected()
        self.assertRaises(NoTransition, machine.started_received)
        machine.ready_received()
        self.assertEqual(log, [Open(SESSION, "me"), "ready"])


class ServerMachineTests(SynchronousTestCase):
    """The server's side."""

    INPUTS: dict[str, Input] = {
        "admitted": lambda m: m.session_admitted(None),
        "turned away": lambda m: m.session_refused(REFUSED),
        "start": lambda m: m.start_received(Start("web")),
        "connected": lambda m: m.service_connected("web"),
        "failed": lambda m: m.service_failed(RefusalCode.BUSY, "later"),
    }
    BUSY = Refused(RefusalCode.BUSY, "later")
    TABLE: Table = {
        "fresh": {
            "admitted": ("ready", [Ready()]),
            "turned away": ("refused", [REFUSED, ("over", REFUSED)]),
        },
        "ready": {"start": ("connecting", [("connect", "web")])},
        "connecting": {
            "connected": ("started", [Started("web"), "started"]),
            "failed": ("refused", [BUSY, ("over", BUSY)]),
        },
        "started": {},
        "refused": {"start": ("refused", [])},
    }

    def make(self) -> tuple[ServerOpening, list[object]]:
        """A fresh machine and the record of what it does."""
        log: list[object] = []
        core = ServerOpeningCore(
            log.append,
            lambda service: log.append(("connect", service)),
            lambda: log.append("started"),
            lambda refused: log.append(("over", refused)),
        )
        return server_opening_machine(core), log

    def test_every_pair(self) -> None:
        """Each input does in each state what the table says, or is refused."""
        walk(self, self.make, self.INPUTS, self.TABLE, "fresh")

    def test_service_that_is_there_at_once(self) -> None:
        """A service may be connected before the wish for it has returned."""
        log: list[object] = []
        core = ServerOpeningCore(
            log.append,
            lambda service: machine.service_connected(service),
            lambda: log.append("started"),
            log.append,
        )
        machine = server_opening_machine(core)
        machine.session_admitted(None)
        machine.start_received(Start("web"))
        self.assertEqual(log, [Ready(), Started("web"), "started"])
