"""A simulated world of hosts, links and NATs behind Twisted's interfaces."""

from .hosts import Host
from .links import Link, LinkProfile
from .network import Interface, Network
from .packets import Packet
from .reactor import HostReactor
from .topology import Realm, SimulationTimeout, World
from .trace import PacketRecord, Trace

__all__ = [
    "Host",
    "HostReactor",
    "Interface",
    "Link",
    "LinkProfile",
    "Network",
    "Packet",
    "PacketRecord",
    "Realm",
    "SimulationTimeout",
    "Trace",
    "World",
]
