"""STUN (RFC 8489): messages, integrity, stream framing, client transactions."""
