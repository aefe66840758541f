"""Requests about accounts that are refused, and how an HTTP answer says so."""

from __future__ import annotations

__all__ = [
    "Refused",
    "account_unknown",
    "forbidden",
    "invalid",
    "system_unknown",
]


class Refused(Exception):
    """A request that is not granted.

    :ivar status: the HTTP status.
    :ivar code: what went wrong, for programs.
    :ivar detail: the same in a sentence, for people.
    :ivar retry_after: seconds after which another try makes sense, 0 if never.
    """

    def __init__(
        self, status: int, code: str, detail: str, retry_after: float = 0.0
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


def system_unknown() -> Refused:
    """No such system, or none on which one has a role: nobody can tell which."""
    return Refused(
        404, "no_such_system", "There is no such system on which you have a role."
    )


def account_unknown(name: str) -> Refused:
    """No account of that name."""
    return Refused(404, "no_such_account", f"There is no account named {name!r}.")


def forbidden(detail: str) -> Refused:
    """A role that does not reach."""
    return Refused(403, "forbidden", detail)


def invalid(detail: str) -> Refused:
    """A value that cannot be; the sentence says which could."""
    return Refused(400, "invalid_request", detail)
