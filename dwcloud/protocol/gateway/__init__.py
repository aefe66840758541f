"""The rules by which a relay lets browsers in (docs/protocol/relaying)."""
