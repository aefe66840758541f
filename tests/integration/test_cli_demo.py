"""``dwcloud demo``: the whole of it, and that nothing is left behind."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.threads import deferToThread

from dwcloud.cli.demo_cloud import FILE_SIZE
from tests.integration.cloud import DWCLOUD, READY_TIMEOUT, CloudTestCase


class DemoTests(CloudTestCase):
    """The demonstration as a program of its own."""

    timeout = 900

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

    async def test_camera(self) -> None:
        """By the address and password that it prints, the video is to be seen."""
        child = self.start_child([*DWCLOUD, "demo", "--camera", "--json"], "demo")
        line = await child.wait_for(r'^\{"event": "camera".*', READY_TIMEOUT * 5)
        pictures = await deferToThread(_look, json.loads(line[0]), 3)
        self.assertEqual(len(set(pictures)), 3)
        await child.stop()
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
        # Until the interrupt was there it may have gone on to the next path.
        self.assertRegex(
            child.last_lines[-1], r"^(tcp|udp|relay): fetching random\.bin$"
        )
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


def _ask(
    url: str, method: str = "GET", body: Any = None, **fields: str
) -> http.client.HTTPResponse:
    """Ask for something of this machine, whatever the name and the certificate."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        "127.0.0.1", parts.port, timeout=60, context=context
    )
    headers = {"Host": parts.netloc, "Accept": "text/html"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    headers |= fields
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    data = None if body is None else json.dumps(body)
    connection.request(method, target, data, headers)
    return connection.getresponse()


def _cookie(answer: http.client.HTTPResponse) -> str:
    return str(answer.headers["Set-Cookie"]).partition(";")[0]


def _look(event: dict[str, str], wanted: int) -> list[bytes]:
    """Do what browser and portal do; return pictures of the video."""
    first = _ask(event["address"])
    query = urlsplit(first.headers["Location"]).query
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    api = event["portal"] + "api/v1"
    credentials = {"name": event["account"], "password": event["password"]}
    signed_in = _ask(f"{api}/sessions", "POST", credentials)
    token = json.loads(signed_in.read())["access_token"]
    key = base64.b64encode(base64.urlsafe_b64decode(asked["key"] + "=")).decode()
    entry = _ask(
        f"{api}/systems/{asked['host'].partition('.')[0]}/gateway-grants",
        "POST",
        {"host": asked["host"], "client_key": key, "state": asked["state"]},
        Authorization=f"Bearer {token}",
    )
    entered = _ask(json.loads(entry.read())["location"], Cookie=_cookie(first))
    video = _ask(event["address"] + "live.mjpeg", Cookie=_cookie(entered))
    pictures: list[bytes] = []
    while len(pictures) < wanted:
        line = video.readline()
        if not line:
            raise AssertionError(f"the video ended: {video.status}")
        if line.lower().startswith(b"content-length:"):
            video.readline()
            pictures.append(video.read(int(line.partition(b":")[2])))
            if not pictures[-1].startswith(b"\xff\xd8"):
                raise AssertionError(f"no picture: {pictures[-1][:20]!r}")
    video.close()
    return pictures


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
