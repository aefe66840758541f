"""The nonces of a relay, which belong to no connection."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.proof import (
    Proof,
    Verifier,
    challenge_field,
    signed_text,
)

__all__ = ["NONCE_LIFETIME", "Challenges"]

NONCE_LIFETIME = 60.0
"""Seconds from the challenge to the proof."""

_CONTEXT = b"dwcloud relay nonce 1"
_KEY_LENGTH = 32
_TIME_LENGTH = 8
_RANDOM_LENGTH = 16
_CODE_LENGTH = 16
_LENGTH = _TIME_LENGTH + _RANDOM_LENGTH + _CODE_LENGTH
# More proofs than one process can check while a nonce lives.
_MOST_SPENT = 65_536


class Challenges:
    """Gives out nonces, each for one proof of one server, and knows them again.

    A proxy may send each request on by another connection, so a nonce cannot belong to
    one. Nor may strangers, who ask for as many as they like, fill a table of them: a
    nonce tells its own time and random number under a key that only this object has.
    Kept is what was spent by a valid proof, until it is too old to be used again.

    :param random_bytes: returns as many random bytes as asked for.
    :param most_spent: spent nonces that are kept. When there are more, nonces that are
        not younger than the one forgotten are refused, so that none is good twice.
    """

    def __init__(
        self, random_bytes: Callable[[int], bytes], most_spent: int = _MOST_SPENT
    ) -> None:
        self._random_bytes = random_bytes
        self._key = random_bytes(_KEY_LENGTH)
        self._most_spent = most_spent
        # In the order of the proofs, with the time of the challenge.
        self._spent: dict[bytes, int] = {}
        # Times up to which a nonce might have been forgotten.
        self._forgotten = -1

    def __len__(self) -> int:
        return len(self._spent)

    def issue(self, name: PeerName, *, now: float) -> str:
        """Make a challenge for ``name``: the value of ``WWW-Authenticate``."""
        issued = _microseconds(now).to_bytes(_TIME_LENGTH, "big")
        told = issued + self._random_bytes(_RANDOM_LENGTH)
        return challenge_field(told + self._code(told, name))

    def check(
        self,
        proof: Proof,
        *,
        method: str,
        name: PeerName,
        channel_binding: bytes,
        verify: Verifier,
        now: float,
    ) -> None:
        """Accept a proof of ``name``, which spends its nonce, or refuse it.

        A proof that is refused spends nothing: anybody could send it.

        :raises RemoteProtocolError: with 401 if it proves nothing.
        """
        self._forget_old(now)
        issued = self._read(proof.nonce, name)
        age = _microseconds(now) - issued
        if not 0 <= age < _microseconds(NONCE_LIFETIME):
            raise RemoteProtocolError("the nonce is too old", 401)
        if issued <= self._forgotten or proof.nonce in self._spent:
            raise RemoteProtocolError("the nonce was used before", 401)
        text = signed_text(method, proof.nonce, name, channel_binding)
        proven = verify(proof.certificates, proof.signature, text)
        if proven != name:
            raise RemoteProtocolError(f"the proof is that of {proven}, not {name}", 401)
        self._spent[proof.nonce] = issued
        self._forget_old(now)

    def _read(self, nonce: bytes, name: PeerName) -> int:
        """The time at which a nonce was given out for ``name``, in microseconds."""
        told, code = nonce[:-_CODE_LENGTH], nonce[-_CODE_LENGTH:]
        if len(nonce) != _LENGTH or not hmac.compare_digest(
            code, self._code(told, name)
        ):
            raise RemoteProtocolError("the nonce is not one for this server", 401)
        return int.from_bytes(told[:_TIME_LENGTH], "big")

    def _code(self, told: bytes, name: PeerName) -> bytes:
        # All parts but the last have a fixed length.
        text = _CONTEXT + told + str(name).encode("ascii")
        return hmac.digest(self._key, text, hashlib.sha256)[:_CODE_LENGTH]

    def _forget_old(self, now: float) -> None:
        """Forget what is too old or too much; its time refuses it from now on."""
        too_old = _microseconds(now) - _microseconds(NONCE_LIFETIME)
        while self._spent:
            nonce, issued = next(iter(self._spent.items()))
            if issued > too_old and len(self._spent) <= self._most_spent:
                return
            del self._spent[nonce]
            self._forgotten = max(self._forgotten, issued)


def _microseconds(seconds: float) -> int:
    return int(seconds * 1_000_000)
