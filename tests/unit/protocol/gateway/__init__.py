"""The rules of the gateway for browsers."""
