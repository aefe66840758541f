"""Relaying: joining two connections that both came to the relay."""
