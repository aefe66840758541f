"""Twisted adapters of the protocols: transports, endpoints, identities."""
