"""``dwcloud demo``: the whole of it, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import signal

from dwcloud.cli.demo_cloud import FILE_SIZE
from tests.integration.cloud import DWCLOUD, READY_TIMEOUT, CloudTestCase


class DemoTests(CloudTestCase):
    """The demonstration as a program of its own."""

    timeout = 300

    def setUp(self) -> None:
        """Let it make its files where they can be looked for."""
        super().setUp()
        self.temporary = self.directory / "tmp"
        self.temporary.mkdir()
        self.environment["TMPDIR"] = str(self.temporary)

    def check_nothing_left(self) -> None:
        """No file and no process of it remains."""
        self.assertEqual(list(self.temporary.iterdir()), [])
        self.assertEqual(_processes_naming(str(self.temporary)), [])

    async def test_json(self) -> None:
        """Each path carries the file, and says so."""
        result = await self.run_dwcloud("demo", "--json")
        self.assertEqual(result.code, 0, result.err)
        lines = [json.loads(line) for line in result.out.splitlines()]
        *paths, total = lines
        self.assertEqual([p["path"] for p in paths], ["lan", "tcp", "udp", "relay"])
        for path in paths:
            self.assertTrue(path["ok"], path)
            self.assertEqual(path["report"]["path"], path["path"])
            self.assertEqual(path["bytes"], FILE_SIZE)
            self.assertEqual(path["sha256"], total["sha256"])
            self.assertGreater(path["megabytes_per_second"], 0)
            self.assertGreater(path["first_byte_seconds"], 0)
        self.assertTrue(total["ok"])
        self.check_nothing_left()

    async def test_keep(self) -> None:
        """It stays up, its advice works, and an interrupt ends everything."""
        child = self.start_child([*DWCLOUD, "demo", "--keep"], "dwcloud demo")
        await child.wait_for("^each path carried the file", READY_TIMEOUT * 5)
        for path in ("lan", "tcp", "udp", "relay"):
            await child.wait_for(rf"^{path} .* MB/s|^{path} .* same$", READY_TIMEOUT)
        line = await child.wait_for(
            r"^  dwcloud forward (\S+) 8080:web --mediator (\S+)", READY_TIMEOUT
        )
        await child.wait_for("^Ctrl-C ends everything", READY_TIMEOUT)
        result = await self.run_dwcloud(
            "connect",
            line[1],
            "--mediator",
            line[2],
            "--interface",
            "127.0.0.1",
            data=b"GET /README.txt HTTP/1.0\r\n\r\n",
        )
        self.assertIn(b"Published by 'dwcloud demo'", result.out, result.err)
        await child.stop()
        self.assertEqual(child.exit_code, 0)
        self.check_nothing_left()

    async def test_interrupted(self) -> None:
        """An interrupt in the middle ends everything, too."""
        child = self.start_child([*DWCLOUD, "demo"], "dwcloud demo")
        await child.wait_for("^mediator ", READY_TIMEOUT)
        await child.stop()
        self.assertEqual(child.exit_code, 128 + signal.SIGTERM)
        self.check_nothing_left()

    async def test_interrupted_while_fetching(self) -> None:
        """So does one in the middle of a transfer, and nobody is alarmed."""
        child = self.start_child([*DWCLOUD, "demo"], "dwcloud demo")
        await child.wait_for("^tcp: fetching", READY_TIMEOUT)
        await child.stop()
        self.assertEqual(child.exit_code, 128 + signal.SIGTERM)
        self.assertEqual(child.last_lines[-1], "tcp: fetching random.bin")
        self.check_nothing_left()

    async def test_program_dies(self) -> None:
        """A program that dies is named, with its last words."""
        child = self.start_child([*DWCLOUD, "demo", "--keep"], "dwcloud demo")
        await child.wait_for("^Ctrl-C ends everything", READY_TIMEOUT * 5)
        (relay,) = [
            process
            for process, command in _processes_naming(str(self.temporary))
            if "relay" in command and "mediator" not in command
        ]
        os.kill(relay, signal.SIGKILL)
        await child.wait_for(
            r"^dwcloud demo: the relay ended early \(signal SIGKILL\); its last output",
            READY_TIMEOUT,
        )
        # It ends by itself; a signal now would only race with that.
        await child.ended
        self.assertEqual(child.exit_code, 1)
        self.check_nothing_left()


def _processes_naming(directory: str) -> list[tuple[int, str]]:
    """The processes that run in a directory below ``directory``: id and command."""
    found = []
    for name in os.listdir("/proc"):
        if not re.fullmatch(r"\d+", name):
            continue
        try:
            where = os.readlink(f"/proc/{name}/cwd")
            with open(f"/proc/{name}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode()
        except OSError:
            # It ended meanwhile, or is somebody else's.
            continue
        if where.startswith(directory + "/"):
            found.append((int(name), command))
    return found
