"""Carrying a byte stream through HTTP."""
