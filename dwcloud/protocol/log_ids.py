"""What logs call a connect session.

Who knows the id of a session may open streams by it (docs/protocol/opening), so that it
belongs neither into logs nor into the hands of a relay. Its hash does: all parties
write the same one, and nobody gets from it to the id.
"""

from __future__ import annotations

import hashlib
import uuid
from functools import lru_cache

__all__ = ["log_id"]


@lru_cache(maxsize=256)
def log_id(session_id: uuid.UUID) -> str:
    """Return the name of a session in logs, a version 8 UUID (RFC 9562, 5.8)."""
    digest = bytearray(
        hashlib.sha256(b"dwcloud connect session " + session_id.bytes).digest()[:16]
    )
    digest[6] = 0x80 | digest[6] & 0x0F
    digest[8] = 0x80 | digest[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(digest)))
