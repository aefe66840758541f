"""The tables of the store, as numbered migrations.

A migration that was released is never changed; a new one is added. Everything is kept
in types that SQLite and PostgreSQL share: identifiers, hashes and keys as text (hashes
in hexadecimal), times as milliseconds since 1970, truth values as 0 and 1.
"""

from __future__ import annotations

__all__ = ["MIGRATIONS", "SERIAL"]

SERIAL = "{serial}"
"""Stands for the type of a number that the database counts up."""

_FIRST = (
    """CREATE TABLE accounts (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        password_hash TEXT NOT NULL,
        totp_sealed TEXT,
        totp_pending TEXT,
        totp_step BIGINT NOT NULL DEFAULT 0,
        disabled SMALLINT NOT NULL DEFAULT 0,
        created BIGINT NOT NULL
    )""",
    """CREATE TABLE recovery_codes (
        hash TEXT PRIMARY KEY,
        account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE
    )""",
    "CREATE INDEX recovery_codes_account ON recovery_codes (account)",
    """CREATE TABLE systems (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        public_key TEXT NOT NULL,
        is_public SMALLINT NOT NULL DEFAULT 0,
        web SMALLINT NOT NULL DEFAULT 0,
        bound BIGINT NOT NULL
    )""",
    """CREATE TABLE roles (
        system TEXT NOT NULL REFERENCES systems ON DELETE CASCADE,
        account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
        role SMALLINT NOT NULL CHECK (role BETWEEN 1 AND 3),
        since BIGINT NOT NULL,
        PRIMARY KEY (system, account)
    )""",
    "CREATE UNIQUE INDEX one_owner ON roles (system) WHERE role = 3",
    "CREATE INDEX roles_account ON roles (account)",
    """CREATE TABLE revocations (
        system TEXT NOT NULL REFERENCES systems ON DELETE CASCADE,
        account TEXT NOT NULL,
        at BIGINT NOT NULL,
        PRIMARY KEY (system, account)
    )""",
    """CREATE TABLE servers (
        system TEXT NOT NULL REFERENCES systems ON DELETE CASCADE,
        server TEXT NOT NULL,
        seen BIGINT NOT NULL,
        PRIMARY KEY (system, server)
    )""",
    """CREATE TABLE invitations (
        hash TEXT PRIMARY KEY,
        system TEXT REFERENCES systems ON DELETE CASCADE,
        role SMALLINT NOT NULL CHECK (role BETWEEN 1 AND 2),
        inviter TEXT REFERENCES accounts ON DELETE CASCADE,
        expires BIGINT NOT NULL
    )""",
    "CREATE INDEX invitations_system ON invitations (system)",
    "CREATE INDEX invitations_inviter ON invitations (inviter)",
    """CREATE TABLE sessions (
        id TEXT PRIMARY KEY,
        account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
        kind TEXT NOT NULL,
        access_hash TEXT NOT NULL UNIQUE,
        access_expires BIGINT NOT NULL,
        refresh_hash TEXT UNIQUE,
        previous_hash TEXT,
        refreshed BIGINT NOT NULL,
        confirmed SMALLINT NOT NULL DEFAULT 0,
        created BIGINT NOT NULL,
        used BIGINT NOT NULL,
        expires BIGINT NOT NULL,
        address TEXT NOT NULL,
        agent TEXT NOT NULL
    )""",
    "CREATE INDEX sessions_account ON sessions (account)",
    "CREATE INDEX sessions_expires ON sessions (expires)",
    """CREATE TABLE spent_tokens (
        hash TEXT PRIMARY KEY,
        session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE
    )""",
    "CREATE INDEX spent_tokens_session ON spent_tokens (session)",
    """CREATE TABLE challenges (
        hash TEXT PRIMARY KEY,
        account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
        expires BIGINT NOT NULL
    )""",
    "CREATE INDEX challenges_account ON challenges (account)",
    """CREATE TABLE log (
        id {serial},
        at BIGINT NOT NULL,
        action TEXT NOT NULL,
        outcome TEXT NOT NULL,
        account TEXT,
        who TEXT NOT NULL,
        system TEXT,
        detail TEXT NOT NULL,
        address TEXT NOT NULL
    )""",
    "CREATE INDEX log_system ON log (system, id)",
    "CREATE INDEX log_account ON log (account, id)",
    "CREATE INDEX log_at ON log (at)",
)

_SCOPED = (
    # A token for one system is a session that opens nothing else.
    "ALTER TABLE sessions ADD COLUMN system TEXT REFERENCES systems ON DELETE CASCADE",
    "ALTER TABLE sessions ADD COLUMN role SMALLINT",
    "ALTER TABLE sessions ADD COLUMN label TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX sessions_system ON sessions (system)",
    """CREATE TABLE tries (
        id {serial},
        name_hash TEXT NOT NULL,
        at BIGINT NOT NULL
    )""",
    "CREATE INDEX tries_name ON tries (name_hash)",
    "CREATE INDEX tries_at ON tries (at)",
    "CREATE TABLE mediator (instance TEXT NOT NULL)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SCOPED)
"""Statements that lead from version N to N + 1, for N from 0."""
