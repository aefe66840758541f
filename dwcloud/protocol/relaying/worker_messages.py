"""What the processes of one relay say to each other.

A message is a line of JSON, then bytes up to its end. Where messages begin and end, and
descriptors that go with them, is the business of the socket between the processes.
"""

from __future__ import annotations

import json
from typing import Any

import attrs

__all__ = ["Answer", "Connection", "Message", "Question", "decode", "encode"]


@attrs.frozen
class Connection:
    """A connection for the receiver; its descriptor comes with the message.

    :ivar data: what was read from it already.
    :ivar peer: host and port of the far end, None if the descriptor tells them.
    :ivar channel_binding: of TLS that ends at the sender; None if it does not.
    """

    data: bytes
    peer: tuple[str, int] | None = None
    channel_binding: bytes | None = None


@attrs.frozen
class Question:
    """What are your figures?

    :ivar number: to be repeated in the answer.
    :ivar asker: number of the process to answer.
    """

    number: int
    asker: int


@attrs.frozen
class Answer:
    """The sender's figures, as the statistics have them."""

    number: int
    figures: dict[str, Any]


Message = Connection | Question | Answer


def encode(message: Message) -> bytes:
    """Write a message."""
    head: dict[str, Any]
    data = b""
    match message:
        case Connection(data=data, peer=peer, channel_binding=binding):
            head = {
                "kind": "connection",
                "peer": peer,
                "binding": None if binding is None else binding.hex(),
            }
        case Question(number=number, asker=asker):
            head = {"kind": "question", "number": number, "asker": asker}
        case Answer(number=number, figures=figures):
            head = {"kind": "answer", "number": number, "figures": figures}
    return json.dumps(head).encode("ascii") + b"\n" + data


def decode(data: bytes) -> Message:
    """Read a message.

    :raises ValueError: if it is none.
    """
    line, _, rest = data.partition(b"\n")
    try:
        head = json.loads(line)
        match head["kind"]:
            case "connection":
                peer, binding = head["peer"], head["binding"]
                return Connection(
                    rest,
                    None if peer is None else (str(peer[0]), int(peer[1])),
                    None if binding is None else bytes.fromhex(binding),
                )
            case "question":
                return Question(int(head["number"]), int(head["asker"]))
            case "answer":
                return Answer(int(head["number"]), dict(head["figures"]))
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as e:
        raise ValueError(f"not a message between workers: {line[:80]!r}") from e
    raise ValueError(f"not a kind of message between workers: {line[:80]!r}")
