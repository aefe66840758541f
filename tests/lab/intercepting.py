"""Routers that pass port 80 through Squid without telling anybody."""

from __future__ import annotations

import os
import pathlib
import shutil

from tests.lab.processes import Process, wait_for
from tests.lab.topology import Lab, Router
from tests.requirements import require

__all__ = ["intercept", "require_squid"]

SQUID = """\
http_port 3128
http_port 3129 intercept
http_access allow all
pid_filename none
access_log {directory}/access
cache_log {directory}/squid.log
cache deny all
coredump_dir {directory}
shutdown_lifetime 0 seconds
"""
REDIRECT = """\
add table ip intercept
add chain ip intercept prerouting { type nat hook prerouting priority dstnat; }
add rule ip intercept prerouting iifname "lan" tcp dport 80 redirect to :3129
"""


def require_squid() -> str:
    """Skip the current test where there is no Squid; return its path."""
    squid = shutil.which("squid") or shutil.which("squid", path="/usr/sbin")
    require(squid, "squid is not installed")
    assert squid is not None
    return squid


def intercept(lab: Lab, router: Router) -> pathlib.Path:
    """Run Squid on a router, for all that its network sends to port 80.

    :return: the file in which it logs requests.
    """
    directory = lab.directory / f"squid-{router.namespace.label}"
    directory.mkdir()
    # Squid works as another user when it was started by root.
    lab.directory.chmod(0o755)
    directory.chmod(0o777)
    configuration = directory / "squid.conf"
    configuration.write_text(SQUID.format(directory=directory))
    command = [require_squid(), "-N", "-f", str(configuration)]
    lab.keep(
        Process(
            directory.name,
            router.namespace.command(command),
            directory,
            dict(os.environ),
            lab.logs,
        )
    )
    inspect = router.namespace.inspect
    wait_for("squid", lambda: inspect("ss", "-Hltn", "sport = :3129"))
    router.namespace.nft(REDIRECT)
    return directory / "access"
