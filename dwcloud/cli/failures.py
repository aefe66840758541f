"""One line for a person from a failure: which step failed, and what to do."""

from __future__ import annotations

import errno
import re
from typing import Any

from twisted.internet import error
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from dwcloud import errors
from dwcloud.peer.status import ConnectionReport

__all__ = [
    "CommandFailed",
    "OutputLost",
    "is_expected",
    "one_line",
    "session_to_trace",
    "without_full_stop",
    "words_of",
]


class CommandFailed(Exception):
    """A command cannot do its work; the message says which step, and what to do."""


class OutputLost(ConnectionLost):
    """Nobody takes what a command writes; the message says why."""

    def __str__(self) -> str:
        return str(self.args[0])


_SAID_TWICE = re.compile(r"\b(relay \S+: )(?=\1)")
"""Who names what was tried, and its error as well, would name a relay twice."""

_STEPS: tuple[tuple[type[BaseException], str, str], ...] = (
    # The first class that fits gives the step, and what to do about it.
    (
        errors.MediatorUnreachable,
        "asking the mediator",
        "check --mediator, and that UDP and TCP to that port are open",
    ),
    (
        errors.PeerUnknown,
        "asking the mediator",
        "check the peer name, that the server uses the same mediator, and, where there "
        "are accounts, that you are signed in to one with a role on it",
    ),
    (
        errors.PeerOffline,
        "asking the mediator",
        "start 'dwcloud serve' on the server, or check its network",
    ),
    (
        errors.IdentityMismatch,
        "verifying the server",
        "somebody else answered in its place; check the peer name, and if it is "
        "right do not trust this network",
    ),
    (
        errors.ServiceRefused,
        "opening the service",
        "name a service that the server offers, and check that it runs there",
    ),
    (
        errors.ServerDidNotAnswer,
        "reaching the server",
        "try again; if it stays so, restart 'dwcloud serve' on the server",
    ),
    (
        errors.ConnectTimeout,
        "reaching the server",
        "try again, allow more time with --timeout, or check 'dwcloud status'",
    ),
    (
        errors.ProxyUnreachable,
        "connecting",
        "check --proxy and the variables for proxies, or connect without: --proxy none",
    ),
    (
        errors.RelayRefused,
        "asking the relay",
        "check the relay, or choose another path with --path",
    ),
    (
        errors.AllAttemptsFailed,
        "reaching the server",
        "let all paths be tried with --path auto, and check 'dwcloud status' on "
        "both machines",
    ),
    (
        errors.AuthenticationFailed,
        "registering at the mediator",
        "check the clock of this machine and the files of its identity",
    ),
    # Each says what to do: they are of a cloud that was reached, or about accounts.
    (errors.APIRefused, "", ""),
    (errors.CloudKeyChanged, "", ""),
    (errors.NoAccounts, "", ""),
    (errors.NotSignedIn, "", ""),
    (errors.SystemUnknown, "", ""),
    # It names the file or the option, which may have been read or written.
    (errors.ConfigurationError, "", ""),
    (OutputLost, "writing the output", ""),
    (
        error.CannotListenError,
        "listening",
        "stop the program that uses the port, or choose another port",
    ),
    (error.DNSLookupError, "looking up the host name", "check the name"),
    (
        error.ConnectionRefusedError,
        "connecting",
        "check the address, and that the program runs there",
    ),
    (error.TimeoutError, "connecting", "check the address and the firewalls between"),
    (error.ConnectError, "connecting", "check the address"),
    (error.ConnectionLost, "transferring", "try again"),
    (CommandFailed, "", ""),
    (errors.CloudError, "", ""),
)


def is_expected(reason: Failure) -> bool:
    """Tell whether a failure is one that the outside world causes, not a bug."""
    return any(reason.check(kind) for kind, _, _ in _STEPS)


def one_line(reason: Failure) -> str:
    """What failed, in which step, and what to do, on one line."""
    text = words_of(reason)
    for kind, step, remedy in _STEPS:
        if reason.check(kind):
            if _is_foreign_address(reason):
                remedy = "name one that it has"
            return _compose(step, text, remedy)
    return _compose("", text, "")


def _is_foreign_address(reason: Failure) -> bool:
    """Tell whether a port could not be had because the address is elsewhere."""
    value: Any = reason.value
    if reason.check(error.ConnectBindError):
        return bool(value.osError == errno.EADDRNOTAVAIL)
    if reason.check(error.CannotListenError):
        return getattr(value.socketError, "errno", None) == errno.EADDRNOTAVAIL
    return False


def _compose(step: str, text: str, remedy: str) -> str:
    if step:
        text = f"{step} failed: {text}"
    return f"{text}; {remedy}" if remedy else text


def words_of(reason: Failure) -> str:
    """What happened, on one line and without a full stop."""
    if _is_foreign_address(reason):
        address = getattr(reason.value, "interface", "the address to connect from")
        return f"{address} is not an address of this machine"
    if reason.check(error.CannotListenError):
        # Its own text is made of a tuple; say the same in a sentence.
        value: Any = reason.value
        where = f"{value.interface or 'any address'} port {value.port}"
        why = getattr(value.socketError, "strerror", None) or value.socketError
        return f"{where}: {why}"
    words = " ".join(reason.getErrorMessage().split())
    words = _SAID_TWICE.sub("", words)
    return without_full_stop(words.rstrip(";")) or type(reason.value).__name__


def without_full_stop(text: str) -> str:
    """``text``, to be gone on with; dots that stand for more stay."""
    return text if text.endswith("...") else text.rstrip(".")


def session_to_trace(report: ConnectionReport) -> str | None:
    """A line that tells how to find out more about a connection that failed.

    :return: None if it has not come as far as having a connect session.
    """
    if report.error is None or report.connect_session_id is None:
        return None
    return (
        f"connect session {report.connect_session_id}: 'dwcloud trace' puts together "
        "what the logs of all parties say of it"
    )
