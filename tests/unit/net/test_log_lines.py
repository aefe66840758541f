"""The option that says in which form ``twistd`` logs."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from twisted.application.service import Application
from twisted.logger import ILogObserver, Logger, LogPublisher
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.log_lines import LogOptions, use_log_format


class LogOptionTests(SynchronousTestCase):
    """``--log-format``."""

    def options(self, *words: str, **of_twistd: Any) -> LogOptions:
        options = LogOptions()
        options.parent = of_twistd
        options.parseOptions(list(words))
        return options

    def application(self) -> Any:
        return Application("a service")  # type: ignore[no-untyped-call]

    def test_default(self) -> None:
        """Without the option twistd logs as it likes."""
        application = self.application()
        use_log_format(self.options(logfile="x"), application)
        self.assertIsNone(application.getComponent(ILogObserver, None))

    def test_file(self) -> None:
        """The log goes to the file that twistd was told, and SIGUSR1 rotates it."""
        before = signal.getsignal(signal.SIGUSR1)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        name, application = self.mktemp(), self.application()
        use_log_format(self.options("--log-format=json", logfile=name), application)
        observer = application.getComponent(ILogObserver)
        Logger(observer=LogPublisher(observer)).info("{what} happened", what="nothing")
        event = json.loads(Path(name).read_text())
        self.assertEqual(
            (event["message"], event["what"]), ("nothing happened", "nothing")
        )
        self.assertTrue(callable(signal.getsignal(signal.SIGUSR1)))

    def test_mistakes(self) -> None:
        """What does not go together is refused."""
        for words, of_twistd, expected in (
            (["--log-format=xml"], {}, "not one of text, json"),
            (["--log-format=json"], {"syslog": True}, "--syslog exclude each other"),
            (["--log-format=json"], {"logger": print}, "--logger exclude each other"),
        ):
            error = self.assertRaises(UsageError, self.options, *words, **of_twistd)
            self.assertIn(expected, str(error))
        options = self.options("--log-format=json", logfile="-")
        self.assertRaises(SystemExit, use_log_format, options, self.application())
