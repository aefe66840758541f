"""A PostgreSQL server of the tests' own, in a temporary directory."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from tests.requirements import require

__all__ = ["PostgreSQLServer", "fresh_database", "server"]

_USERS = ("postgres", "nobody")
_START_TIMEOUT = 60.0


def _program(name: str) -> str | None:
    """Find a program; Debian keeps those of the server apart."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@attrs.define
class PostgreSQLServer:
    """A server that listens on a UNIX socket alone.

    It refuses to run as root, so another user is taken there.
    """

    directory: Path
    _as_user: dict[str, Any]
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(cls) -> PostgreSQLServer:
        """Make a new cluster and start it."""
        directory = Path(tempfile.mkdtemp(prefix="dwcloud-pg-"))
        as_user: dict[str, Any] = {}
        if os.getuid() == 0:
            known = {entry.pw_name: entry for entry in pwd.getpwall()}
            entry = next(known[name] for name in _USERS if name in known)
            as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(directory, entry.pw_uid, entry.pw_gid)
        made = cls(directory, as_user)
        made._run("initdb", "-A", "trust", "-U", "tester", "-E", "UTF8", "--no-sync")
        made.start()
        return made

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(_program(name)), "-D", str(self.directory / "data"), *arguments]
        subprocess.run(
            command,
            check=True,
            cwd=self.directory,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            **self._as_user,
        )

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [str(_program("postgres")), "-D", str(self.directory / "data")]
        command += ["-k", str(self.directory), "-c", "listen_addresses="]
        command += ["-c", "fsync=off", "-c", "max_connections=40"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self._environment,
                stdout=log,
                stderr=log,
                **self._as_user,
            )
        import psycopg

        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    text = (self.directory / "log").read_text()
                    raise AssertionError(f"PostgreSQL did not start: {text}") from error
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server, which breaks all connections."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(_START_TIMEOUT)

    def remove(self) -> None:
        """Stop the server and remove all of it."""
        self.stop()
        shutil.rmtree(self.directory)

    def url(self, schema: str = "public") -> str:
        """Return the URL of a schema."""
        host = quote(str(self.directory), safe="")
        options = quote(f"-csearch_path={schema}", safe="")
        return f"postgresql://tester@/postgres?host={host}&options={options}"


@functools.cache
def server() -> PostgreSQLServer:
    """Return the server of this process, which goes when the process ends."""
    made = PostgreSQLServer.create()
    atexit.register(made.remove)
    return made


_numbers = itertools.count(1)


def fresh_database(test: Any) -> str:
    """Return the URL of a place without tables, removed after the test."""
    try:
        import psycopg
    except ImportError:
        psycopg = None  # type: ignore[assignment]
    require(psycopg, "psycopg is not installed")
    require(_program("initdb"), "PostgreSQL is not installed")
    running = server()
    schema = f"test_{next(_numbers)}"

    def carry_out(statement: str) -> None:
        with psycopg.connect(running.url(), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    carry_out(f"CREATE SCHEMA {schema}")
    test.addCleanup(carry_out, f"DROP SCHEMA {schema} CASCADE")
    return running.url(schema)
