"""A simulated world of hosts, links and NATs behind Twisted's interfaces.

A program for Twisted takes a reactor. Give it that of a simulated host, and it runs
in simulated time, always in the same way, without waiting::

    from twisted.web.client import Agent, readBody
    from twisted.web.server import Site
    from twisted.web.static import File
    from dwcloud.testing import SYMMETRIC, TCP, World

    world = World(seed=1)
    internet = world.internet()
    web = internet.host("203.0.113.1", name="web")
    world.add_name("www.example", web.address)
    laptop = internet.nat("198.51.100.1", SYMMETRIC).host("192.168.1.10", name="laptop")
    web.reactor.listenTCP(80, Site(File("/"), reactor=web.reactor))
    got = Agent(laptop.reactor).request(b"GET", b"http://www.example/")
    page = world.run_until(got.addCallback(readBody), limit=10.0)
    assert world.trace.bytes_carried("web", "laptop", TCP) > len(page)

Latency, loss, rate and queues are those of :class:`LinkProfile`, NATs have the
behaviours of RFC 4787 (:class:`NATBehaviour`, by usual names in ``NAT_KINDS``), rules
are a :class:`Firewall`'s, and :class:`Trace` proves which path carried what.

Twisted's ``wrapClientTLS``, ``tls:`` endpoints and HTTPS agents take the clock of the
process's own reactor: connect with ``TLSMemoryBIOFactory(..., clock=reactor)`` instead.
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
from .proxy import BadProxy, Defects
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
    "BadProxy",
    "Defects",
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
