"""Wrong passwords of an account lock it for a while: kept in the store.

So a mediator that is started again has forgotten none of them.
"""

from __future__ import annotations

import attrs

from dwcloud.accounts.tokens import hash_secret
from dwcloud.accounts.transactions import Transaction

__all__ = ["LockOut"]


@attrs.frozen
class LockOut:
    """Lets nobody try passwords of an account for a while after several wrong ones.

    A try counts from its beginning, so that many at once are no way round. Names are
    kept as hashes: people type passwords in their place.

    :ivar tries: wrong ones within ``period``.
    :ivar period: seconds, also of the lock.
    """

    tries: int = 5
    period: float = 60.0

    def begin(self, transaction: Transaction, name: str) -> float:
        """Begin a try; return 0 if it may go on, else the seconds to wait."""
        period = round(self.period * 1000)
        # Those of the future are of a clock that was wrong.
        transaction.execute(
            "DELETE FROM tries WHERE at <= ? OR at > ?",
            transaction.now - period,
            transaction.now,
        )
        hashed = hash_secret(name)
        rows = transaction.all(
            "SELECT at FROM tries WHERE name_hash = ? ORDER BY at", hashed
        )
        if len(rows) >= self.tries:
            return float(rows[0][0] + period - transaction.now) / 1000
        transaction.execute(
            "INSERT INTO tries (name_hash, at) VALUES (?, ?)", hashed, transaction.now
        )
        return 0.0

    @staticmethod
    def succeeded(transaction: Transaction, name: str) -> None:
        """A try was right: none of them counts any more."""
        transaction.execute("DELETE FROM tries WHERE name_hash = ?", hash_secret(name))

    @staticmethod
    def give_back(transaction: Transaction, name: str) -> None:
        """The last try was neither right nor wrong."""
        transaction.execute(
            "DELETE FROM tries WHERE id ="
            " (SELECT MAX(id) FROM tries WHERE name_hash = ?)",
            hash_secret(name),
        )
