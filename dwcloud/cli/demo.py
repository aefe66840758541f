"""``dwcloud demo``: everything at work on one machine."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed

from dwcloud.cli.command import CommandOptions
from dwcloud.cli.console import Console
from dwcloud.cli.demo_browser import ACCOUNT, CameraCloud
from dwcloud.cli.demo_cloud import (
    FILE_NAME,
    FILE_SIZE,
    LOOPBACK,
    SERVICE,
    DemoCloud,
)
from dwcloud.cli.failures import CommandFailed, is_expected, one_line
from dwcloud.cli.fetch import Download, fetch
from dwcloud.cli.progress import ProgressBar
from dwcloud.cli.running import begin_logging, run
from dwcloud.cli.table import render_table
from dwcloud.peer.client import CloudClient, ConnectOptions
from dwcloud.peer.status import PathKind

__all__ = ["DemoCommand", "PathResult"]

_FETCH_TIMEOUT = 120.0
"""Seconds for the file over one path."""

_HOW = {
    PathKind.LAN: "heard on the LAN, mediator not asked",
    PathKind.TCP: "direct TCP, address from the mediator",
    PathKind.UDP: "UDT, hole punched from both sides",
    PathKind.RELAY: "two outgoing connections, joined by the relay",
}


@attrs.frozen
class PathResult:
    """How one path did.

    :ivar path: the only one that was allowed.
    :ivar download: what came over it; None if nothing did.
    :ivar error: why it does not count; None if it does.
    """

    path: PathKind
    download: Download | None
    error: str | None

    @classmethod
    def judge(cls, path: PathKind, download: Download, sha256: str) -> PathResult:
        """Compare what came with what should have, and the path with the wanted."""
        error = None
        if download.report.path is not path:
            error = f"the file came by {download.report.path} instead"
        elif download.size != FILE_SIZE:
            error = f"{download.size} bytes came instead of {FILE_SIZE}"
        elif download.sha256 != sha256:
            error = f"the file came damaged: its SHA-256 is {download.sha256}"
        return cls(path, download, error)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values: dict[str, Any] = {
            "event": "path",
            "path": self.path.value,
            "ok": self.error is None,
            "how": _HOW[self.path],
        }
        if self.error is not None:
            values["error"] = self.error
        if self.download is not None:
            values |= {
                "bytes": self.download.size,
                "sha256": self.download.sha256,
                "first_byte_seconds": round(self.download.first_byte_seconds, 4),
                "megabytes_per_second": round(self.download.megabytes_per_second, 2),
                "report": self.download.report.as_dict(),
            }
        return values

    def as_row(self) -> list[str]:
        """Cells for a person."""
        if self.download is None:
            return [self.path.value, f"FAILED: {self.error}", "", "", "", ""]
        return [
            self.path.value,
            _HOW[self.path],
            self.download.report.remote_address or "",
            f"{self.download.first_byte_seconds * 1000:.0f} ms",
            f"{self.download.megabytes_per_second:.1f}",
            "same" if self.error is None else f"FAILED: {self.error}",
        ]


_HEADER = ("path", "how it was chosen", "far end", "first byte", "MB/s", "SHA-256")


class DemoCommand(CommandOptions):
    """``dwcloud demo``."""

    command = "dwcloud demo"
    synopsis = "[--json] [--keep] | --camera [--json]"
    longdesc = (
        "Start a mediator, a relay, a web server and 'dwcloud serve' on 127.0.0.1, and "
        f"fetch a file of {FILE_SIZE // 2**20} MiB once over each kind of path: LAN, "
        "direct TCP, UDP through punched holes, relay. The exit code is 0 only if each "
        "path carried the file undamaged. Everything is ended and removed afterwards. "
        "With --camera: a mediator with "
        "accounts, a relay that lets browsers in, and a camera to look at with any "
        "browser of this machine, until it is interrupted."
    )
    optFlags = [
        ["json", None, "Print one line of JSON for each path instead of a table."],
        ["keep", None, "Leave everything running, and print how to try it by hand."],
        ["camera", None, "Show a camera to browsers instead, and print its address."],
        ["verbose", None, "Log to standard error what goes on inside."],
    ]

    def run(self, console: Console) -> int:
        """Show everything."""
        begin_logging(self["verbose"])

        async def command(reactor: Any) -> int:
            if self["camera"]:
                return await self._show_camera(reactor, console)
            return await self._demonstrate(reactor, console)

        return run(self.command, command, console)

    async def _demonstrate(self, reactor: Any, console: Console) -> int:
        cloud = DemoCloud(reactor, console)
        try:
            await cloud.start()
            results = []
            for path in PathKind:
                results.append(await self._try_path(reactor, console, cloud, path))
                if self["json"]:
                    console.result_event(results[-1].as_dict())
            ok = all(result.error is None for result in results)
            self._print(console, results, cloud, ok)
            if self["keep"]:
                await self._keep(console, cloud)
            return 0 if ok else 1
        finally:
            await cloud.stop()

    async def _show_camera(self, reactor: Any, console: Console) -> int:
        cloud = CameraCloud(reactor, console)
        try:
            await cloud.start()
            if self["json"]:
                console.result_event(
                    {
                        "event": "camera",
                        "address": cloud.address,
                        "portal": f"{cloud.portal}/",
                        "account": ACCOUNT,
                        "password": cloud.password,
                    }
                )
            else:
                console.line(
                    f"Open {cloud.address} in a browser on this machine.\n"
                    "It warns of two certificates, of the relay and of the mediator, "
                    "which were made just now.\n"
                    f"Sign in as {ACCOUNT} with the password {cloud.password}"
                )
            await self._wait_for_end(console, cloud)
            return 0
        finally:
            await cloud.stop()

    async def _try_path(
        self, reactor: Any, console: Console, cloud: DemoCloud, path: PathKind
    ) -> PathResult:
        # Each path gets a client of its own, which knows nothing of the others.
        client = CloudClient(reactor, cloud.mediator, interface=LOOPBACK)
        bar = ProgressBar(console, reactor.seconds, path.value, FILE_SIZE)
        if not console.interactive:
            console.message(f"{path.value}: fetching {FILE_NAME}")
        client.start()
        try:
            options = ConnectOptions(path=path.value)
            fetching = Deferred.fromCoroutine(
                fetch(
                    reactor, client, cloud.peer, SERVICE, FILE_NAME, options, bar.update
                )
            )
            fetching.addTimeout(_FETCH_TIMEOUT, reactor, onTimeoutCancel=_too_slow)
            download = await fetching
            return PathResult.judge(path, download, cloud.sha256)
        except CancelledError:
            raise
        except Exception:
            reason = Failure()
            # A program that died is the reason of whatever failed after it.
            cloud.check()
            return PathResult(path, None, _why(reason))
        finally:
            bar.finish()
            await client.stop()

    def _print(
        self, console: Console, results: list[PathResult], cloud: DemoCloud, ok: bool
    ) -> None:
        if self["json"]:
            total = {"ok": ok, "sha256": cloud.sha256, "bytes": FILE_SIZE}
            console.result_event({"event": "result", **total})
            return
        for line in render_table(_HEADER, [r.as_row() for r in results], right=(3, 4)):
            console.line(line)
        verdict = (
            f"each path carried the file of {FILE_SIZE // 2**20} MiB undamaged"
            if ok
            else "not every path carried the file"
        )
        console.line(verdict)

    async def _keep(self, console: Console, cloud: DemoCloud) -> None:
        where = f"--mediator {cloud.mediator} --interface {LOOPBACK}"
        console.message("\nRunning:")
        for command in cloud.by_hand:
            console.message(f"  {command}")
        console.message(
            "Try, with any --path:\n"
            f"  dwcloud forward {cloud.peer} 8080:{SERVICE} {where} --path udp\n"
            f"  curl http://{LOOPBACK}:8080/\n"
            f"  printf 'GET / HTTP/1.0\\r\\n\\r\\n' | "
            f"dwcloud connect {cloud.peer} {where}\n"
            f"  dwcloud status {where}\n"
            "Ctrl-C ends everything."
        )
        await self._wait_for_end(console, cloud)

    async def _wait_for_end(self, console: Console, cloud: DemoCloud) -> None:
        try:
            await cloud.any_ended()
        except CancelledError:
            # Interrupting it is how it ends.
            return
        cloud.check()


def _too_slow(result: object, seconds: float) -> None:
    raise CommandFailed(f"the file did not come within {seconds:g} s")


def _why(reason: Failure) -> str:
    if reason.check(ResponseFailed):
        failed: Any = reason.value
        reason = failed.reasons[0]
    if is_expected(reason):
        return one_line(reason)
    return " ".join(reason.getErrorMessage().split())
