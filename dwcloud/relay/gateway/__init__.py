"""Lets browsers in to systems that allow it (docs/protocol/relaying)."""
