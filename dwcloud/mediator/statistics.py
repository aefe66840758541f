"""What a mediator counts, for its operator."""

from __future__ import annotations

import attrs

__all__ = ["MediatorStatistics"]


@attrs.define
class MediatorStatistics:
    """Counters since the start; gauges of the tables are added by :class:`Mediator`.

    :ivar datagrams_received: STUN messages that came over UDP.
    :ivar datagrams_ignored: datagrams that were no STUN message.
    :ivar answers_withheld: answers not sent over UDP, being longer than the request.
    :ivar send_failures: datagrams that the operating system did not take.
    :ivar bindings: Binding requests answered.
    :ivar challenges: nonces given out; a connection holds one at a time.
    :ivar registrations: servers that came online.
    :ivar replacements: of those, servers whose older channel was still there.
    :ivar refused_registrations: servers refused by policy or for lack of room.
    :ivar bad_proofs: proofs of identity that did not hold.
    :ivar bad_acks: ``connection_ack`` messages that were not authentic.
    """

    datagrams_received: int = 0
    datagrams_ignored: int = 0
    answers_withheld: int = 0
    send_failures: int = 0
    bindings: int = 0
    challenges: int = 0
    registrations: int = 0
    replacements: int = 0
    refused_registrations: int = 0
    bad_proofs: int = 0
    bad_acks: int = 0
