"""Giving each input to a machine in each of its states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from automat._core import Transitioner


def state_of(machine: Any) -> str:
    """Return the name of the state that a machine is in."""
    transitioner: Transitioner[Any, Any, Any] = machine.__automat_transitioner__
    return str(transitioner._state.name)


def walk(
    reach: Mapping[str, Callable[[], Any]],
    inputs: Mapping[str, Callable[[Any], None]],
) -> dict[tuple[str, str], str]:
    """Return what state each input leads to from each state.

    :param reach: makes a machine that is in the state of that name.
    :param inputs: gives the input of that name to a machine.
    """
    result = {}
    for state, make in reach.items():
        for name, give in inputs.items():
            machine = make()
            assert state_of(machine) == state, (state, state_of(machine))
            give(machine)
            result[state, name] = state_of(machine)
    return result
