"""Failures in one line for a person."""

from __future__ import annotations

import errno

from twisted.internet import error
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dwcloud import errors
from dwcloud.cli.failures import (
    CommandFailed,
    OutputLost,
    is_expected,
    one_line,
    without_full_stop,
)


class FailureTests(SynchronousTestCase):
    """Each failure names its step, the reason and the remedy."""

    def check(self, failure: Exception, *parts: str) -> None:
        """The line has all parts, and is one."""
        reason = Failure(failure)
        self.assertTrue(is_expected(reason))
        line = one_line(reason)
        self.assertNotIn("\n", line)
        for part in parts:
            self.assertIn(part, line)

    def test_cloud(self) -> None:
        """Errors of the cloud."""
        for failure, step, remedy in (
            (errors.PeerUnknown("no x"), "asking the mediator", "peer name"),
            (errors.PeerOffline("off"), "asking the mediator", "start 'dwcloud serve'"),
            (errors.MediatorUnreachable("a"), "asking the mediator", "--mediator"),
            (errors.IdentityMismatch("b"), "verifying the server", "do not trust"),
            (errors.ServiceRefused("c"), "opening the service", "offers"),
            (errors.ConnectTimeout("d"), "reaching the server", "--timeout"),
            (errors.AllAttemptsFailed("e", {}), "reaching the server", "--path auto"),
            (errors.RelayRefused("f", 503), "asking the relay", "relay"),
            (errors.AuthenticationFailed("g"), "registering", "clock"),
        ):
            self.check(failure, f"{step} ", " failed: ", str(failure), remedy)

    def test_accounts(self) -> None:
        """Errors about accounts say all that is to be said; no address is to blame."""
        for kind in (
            errors.CloudKeyChanged,
            errors.NoAccounts,
            errors.NotSignedIn,
            errors.SystemUnknown,
        ):
            self.assertEqual(
                one_line(Failure(kind("not so; do that"))), "not so; do that"
            )
        refused = errors.APIRefused("You may not.", 403, "forbidden")
        self.assertEqual(one_line(Failure(refused)), "You may not")

    def test_port_in_use(self) -> None:
        """The port is named."""
        self.check(
            error.CannotListenError(
                "127.0.0.1", 8080, OSError(errno.EADDRINUSE, "Address already in use")
            ),
            "listening failed: 127.0.0.1 port 8080: Address already in use",
            "choose another port",
        )

    def test_any_interface(self) -> None:
        """An empty interface is any address."""
        self.check(
            error.CannotListenError("", 5, OSError(13, "Permission denied")),
            "any address port 5: Permission denied",
        )

    def test_foreign_address(self) -> None:
        """No program has to be stopped for the address of another machine."""
        why = OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        self.check(
            error.CannotListenError("192.0.2.77", 0, why),
            "listening failed: 192.0.2.77 is not an address of this machine; name one",
        )
        self.check(
            error.ConnectBindError(errno.EADDRNOTAVAIL, "Couldn't bind"),
            "connecting failed: the address to connect from is not an address of this",
        )
        self.assertEqual(
            one_line(Failure(error.CannotListenError("::1", 1, "odd"))),
            "listening failed: ::1 port 1: odd; stop the program that uses the port, "
            "or choose another port",
        )

    def test_configuration(self) -> None:
        """What is wrong with a file is told as it is, read or written."""
        self.assertEqual(
            one_line(Failure(errors.ConfigurationError("cannot write x: full"))),
            "cannot write x: full",
        )

    def test_output_lost(self) -> None:
        """Who does not take the output is nobody's connection."""
        self.assertEqual(
            one_line(Failure(OutputLost("nobody reads the output"))),
            "writing the output failed: nobody reads the output",
        )

    def test_relay_named_once(self) -> None:
        """A relay that the attempt and its error name is named once."""
        self.check(
            errors.RelayRefused("relay http://a:1: relay http://a:1: full", 503),
            "failed: relay http://a:1: full; ",
        )

    def test_full_stop(self) -> None:
        """A sentence goes on without its full stop; dots that mean more stay."""
        self.assertEqual(without_full_stop("over."), "over")
        self.assertEqual(without_full_stop("NAME..."), "NAME...")

    def test_connect(self) -> None:
        """Errors of the network."""
        self.check(error.DNSLookupError("no such host"), "looking up the host name")
        self.check(error.ConnectionRefusedError(), "connecting failed", "runs there")
        self.check(error.ConnectionLost("gone"), "transferring failed: ", "gone")

    def test_own_words(self) -> None:
        """What a command says is printed as it is."""
        self.assertEqual(one_line(Failure(CommandFailed("no way"))), "no way")

    def test_many_lines(self) -> None:
        """However long the reason, it is one line."""
        self.check(errors.PeerUnknown("a\n  b\n"), "a b;")

    def test_bug(self) -> None:
        """A bug is not expected."""
        self.assertFalse(is_expected(Failure(KeyError("x"))))
        self.assertEqual(one_line(Failure(KeyError())), "KeyError")
