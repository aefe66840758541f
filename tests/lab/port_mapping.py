"""miniupnpd on a router of the lab, as home routers run it."""

from __future__ import annotations

import pathlib
import re
import shutil

from tests.lab.processes import Process, wait_for
from tests.lab.topology import Lab, Router
from tests.requirements import require

__all__ = ["PortMappingDaemon", "require_miniupnpd"]

_TABLE = "mapped"
_RULES = f"""
table inet {_TABLE} {{
    chain forward {{
        type filter hook forward priority filter - 1; policy accept;
        jump mapped_forward
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat - 1; policy accept;
        jump mapped_nat
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat - 1; policy accept;
        jump mapped_postrouting
    }}
    chain mapped_forward {{ }}
    chain mapped_nat {{ }}
    chain mapped_postrouting {{ }}
}}
"""
_CONFIGURATION = f"""
ext_ifname=wan
listening_ip=lan
enable_upnp={{upnp}}
enable_natpmp={{natpmp}}
secure_mode=yes
notify_interval=60
upnp_table_name={_TABLE}
upnp_nat_table_name={_TABLE}
upnp_forward_chain=mapped_forward
upnp_nat_chain=mapped_nat
upnp_nat_postrouting_chain=mapped_postrouting
uuid=00000000-0000-4000-8000-00000000000{{number}}
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""

_MAPPING = re.compile(
    # The daemon compares the octet of the IP header that names the protocol.
    r"@nh,72,8 (0x6|0x11) th dport (\d+) dnat ip to ([\d.]+):(\d+)"
)
_PROTOCOLS = {"0x6": "tcp", "0x11": "udp"}


def require_miniupnpd() -> None:
    """Skip the current test where there is no miniupnpd for nftables."""
    require(shutil.which("miniupnpd"), "miniupnpd (miniupnpd-nftables) is missing")


class PortMappingDaemon:
    """A running miniupnpd.

    :ivar process: the program.
    """

    def __init__(self, lab: Lab, router: Router, configuration: pathlib.Path) -> None:
        self.router = router
        self.process = self._run(lab, configuration)
        self._configuration = configuration

    @classmethod
    def start(
        cls, lab: Lab, router: Router, *, upnp: bool = True, natpmp: bool = True
    ) -> PortMappingDaemon:
        """Start it; PCP comes with NAT-PMP."""
        router.namespace.nft(_RULES)
        directory = lab.directory / f"{router.namespace.label}-miniupnpd"
        directory.mkdir()
        configuration = directory / "miniupnpd.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                upnp="yes" if upnp else "no",
                natpmp="yes" if natpmp else "no",
                number=router.namespace.number % 10,
            )
        )
        return cls(lab, router, configuration)

    def stop(self) -> None:
        """End it, and forget what it had mapped, as a reboot does."""
        self.process.end()
        for chain in ("mapped_nat", "mapped_forward", "mapped_postrouting"):
            self.router.namespace.nft(f"flush chain inet {_TABLE} {chain}")

    def restart(self, lab: Lab) -> None:
        """Start it again."""
        self.process = self._run(lab, self._configuration)

    def _run(self, lab: Lab, configuration: pathlib.Path) -> Process:
        namespace = self.router.namespace
        words = ["miniupnpd", "-d", "-f", str(configuration)]
        process = lab.keep(
            Process(
                f"{namespace.label}-miniupnpd",
                namespace.command([*words, "-P", str(configuration.with_name("pid"))]),
                configuration.parent,
                {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                lab.logs,
            )
        )
        # SSDP has port 1900, NAT-PMP and PCP port 5351.
        port = 1900 if "enable_upnp=yes" in configuration.read_text() else 5351
        wait_for(
            f"miniupnpd at {namespace.label}",
            lambda: namespace.inspect("ss", "-Hlun", f"sport = :{port}").strip(),
        )
        return process

    def mappings(self) -> set[tuple[str, int, str, int]]:
        """Return what is mapped: protocol, external port, internal host and port."""
        text = self.router.namespace.inspect(
            *("nft", "list", "chain", "inet", _TABLE, "mapped_nat")
        )
        return {
            (_PROTOCOLS[number], int(external), host, int(internal))
            for number, external, host, internal in _MAPPING.findall(text)
        }
