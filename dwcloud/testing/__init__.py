"""A simulated world of hosts, links and NATs behind Twisted's interfaces.

Programs for Twisted take a ``reactor``; give them that of a simulated host and they
run in simulated time, deterministically and without waiting::

    world = World(seed=1)
    internet = world.internet()
    web = internet.host("203.0.113.1")
    world.add_name("www.example", web.address)
    home = internet.nat("198.51.100.1", filtering=Filtering.ADDRESS_DEPENDENT)
    laptop = home.host("192.168.1.10", name="laptop")
    web.reactor.listenTCP(80, Site(page, reactor=web.reactor))
    got = readBody_of(Agent(laptop.reactor).request(b"GET", b"http://www.example/"))
    assert world.run_until(got) == b"hello"
    assert world.trace.bytes_carried(web.name, "laptop", TCP) > len(b"hello")
"""

from .firewall import Firewall
from .hosts import Host
from .links import Link, LinkProfile
from .nat import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    LINUX_WITHOUT_FIREWALL,
    NAT_KINDS,
    PORT_RESTRICTED,
    SYMMETRIC,
    SYMMETRIC_ADDRESS_DEPENDENT,
    SYMMETRIC_OPEN,
    SYMMETRIC_SEQUENTIAL,
    Filtering,
    Mapping,
    NATBehaviour,
    NATTable,
    PortAllocation,
)
from .network import Interface, Network
from .packets import TCP, UDP, Packet
from .reactor import HostReactor
from .routers import Router
from .scheduler import Scheduler, SimulationStalled
from .topology import Realm, SimulationTimeout, World
from .trace import DELIVERED, PacketRecord, Trace

__all__ = [
    "ADDRESS_RESTRICTED",
    "DELIVERED",
    "FULL_CONE",
    "LINUX_WITHOUT_FIREWALL",
    "NAT_KINDS",
    "PORT_RESTRICTED",
    "SYMMETRIC",
    "SYMMETRIC_ADDRESS_DEPENDENT",
    "SYMMETRIC_OPEN",
    "SYMMETRIC_SEQUENTIAL",
    "TCP",
    "UDP",
    "Filtering",
    "Firewall",
    "Host",
    "HostReactor",
    "Interface",
    "Link",
    "LinkProfile",
    "Mapping",
    "NATBehaviour",
    "NATTable",
    "Network",
    "Packet",
    "PacketRecord",
    "PortAllocation",
    "Realm",
    "Router",
    "Scheduler",
    "SimulationStalled",
    "SimulationTimeout",
    "Trace",
    "World",
]
