"""The HTTP API of accounts (docs/protocol/accounts)."""
