"""What the mediator tells Prometheus."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from twisted.internet.defer import succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import ConnectTimeout
from dwcloud.mediator.metrics import _COUNTERS, _GAUGES, _KEPT_APART
from dwcloud.mediator.outcomes import PATHS, Outcomes
from dwcloud.metrics import render
from dwcloud.net.http_client import HTTPAnswer, HTTPClientConnection
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import (
    Connect,
    ConnectionResult,
    ConnectResponse,
)
from dwcloud.protocol.mediation.parameters import ConnectionParameters
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.mediation.session import ConnectSessionCore
from dwcloud.protocol.nat import Filtering, Mapping, NATSummary
from tests.exposition import complaints, read_metrics, values
from tests.unit.mediator.world import (
    IDENTITIES,
    MEDIATOR,
    PORT,
    MediatedWorld,
    SimulatedClient,
)

SYMMETRIC = NATSummary(
    Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT
)
CONE = NATSummary(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
PUNCH_LABELS = ("client_nat", "server_nat", "result")
NATS = st.none() | st.builds(
    NATSummary,
    st.sampled_from(Mapping),
    st.none() | st.sampled_from(Filtering),
    st.integers(-32768, 32767),
)


class MediatorMetricsTests(SynchronousTestCase):
    """A mediator's page, after something has happened."""

    def setUp(self) -> None:
        self.world = MediatedWorld()
        self.server = self.world.online_server()
        self.client = self.world.client()

    def text(self) -> str:
        families = self.world.service.mediator.families()
        return render(families, "")[0].decode()

    def metrics(self) -> dict[str, Metric]:
        return read_metrics(self.text())

    def introduce(self) -> uuid.UUID:
        session = uuid.UUID(bytes=self.client.host.world.random_bytes(16))
        asking = self.client.connect(self.server.identity.name, session)
        self.world.world.run_until(asking, 5.0)
        return session

    def report(
        self,
        session: uuid.UUID,
        path: str | None,
        nat: NATSummary | None = None,
        client: SimulatedClient | None = None,
    ) -> None:
        failure = None if path else Failure(ConnectTimeout())
        started = self.client.reactor.seconds() - 0.2
        self.client.mediator.report_result(
            session, path, failure, started, succeed(nat)
        )
        self.world.world.advance(1.0)

    def test_outcomes(self) -> None:
        """Paths, failures and their reasons are counted, and how long it took."""
        self.report(self.introduce(), "udp", CONE)
        self.report(self.introduce(), "udp")
        self.report(self.introduce(), "relay", SYMMETRIC)
        self.report(self.introduce(), None, SYMMETRIC)
        metrics = self.metrics()
        succeeded = values(metrics["dwcloud_mediator_connects_succeeded"], "_total")
        self.assertEqual(
            succeeded, {("lan",): 0, ("tcp",): 0, ("udp",): 2, ("relay",): 1}
        )
        failed = values(metrics["dwcloud_mediator_connects_failed"], "_total")
        self.assertEqual(failed[("timed_out",)], 1)
        self.assertEqual(sum(failed.values()), 1)
        self.assertEqual(
            values(metrics["dwcloud_mediator_punches"], "_total", PUNCH_LABELS),
            {
                ("port-restricted", "unknown", "direct"): 1,
                ("unknown", "unknown", "direct"): 1,
                ("symmetric", "unknown", "relayed"): 1,
                ("symmetric", "unknown", "failed"): 1,
            },
        )
        took = metrics["dwcloud_mediator_connect_seconds"]
        self.assertEqual(values(took, "_count")[("udp",)], 2)
        self.assertGreater(values(took, "_sum")[("udp",)], 0.0)
        acks = values(metrics["dwcloud_mediator_ack_seconds"], "_count")
        self.assertEqual(acks, {(): 4})

    def test_direct_after_all(self) -> None:
        """A hole found after a relay was ready counts as such, once."""
        session = self.introduce()
        self.report(session, "relay", CONE)
        for _ in range(3):
            self.report(session, "udp", CONE)
        metrics = self.metrics()
        self.assertEqual(
            values(metrics["dwcloud_mediator_punches"], "_total", PUNCH_LABELS),
            {
                ("port-restricted", "unknown", "later"): 1,
                ("port-restricted", "unknown", "relayed"): 1,
            },
        )
        succeeded = values(metrics["dwcloud_mediator_connects_succeeded"], "_total")
        self.assertEqual(sum(succeeded.values()), 1)

    def test_unreported(self) -> None:
        """Introductions of which nothing is heard are counted when forgotten."""
        self.introduce()
        self.report(self.introduce(), "udp")
        self.world.world.advance(70.0)
        metrics = self.metrics()
        name = "dwcloud_mediator_sessions_unreported"
        self.assertEqual(values(metrics[name], "_total"), {(): 1})

    def test_everything_is_described(self) -> None:
        """Each counter of the statistics is known to be one, each gauge, too."""
        known = {*_COUNTERS, *_GAUGES, *_KEPT_APART}
        self.assertEqual({*self.world.snapshot} ^ known, set())

    def test_conventions(self) -> None:
        """promtool finds nothing to say, where it is installed."""
        self.report(self.introduce(), "udp")
        text = self.text()
        self.assertEqual(complaints(text), "")
        for name in read_metrics(text):
            self.assertRegex(name, r"^dwcloud_(mediator_[a-z_]+|build_info)$")

    def ask(self, path: str, address: str = MEDIATOR) -> HTTPAnswer:
        host = self.world.host
        if address != MEDIATOR:
            host = self.world.internet.host(address)
        connecting = connectProtocol(
            TCP4ClientEndpoint(host.reactor, MEDIATOR, PORT), HTTPClientConnection("m")
        )
        connection = self.world.world.run_until(connecting, 5.0)
        assert isinstance(connection, HTTPClientConnection)
        answer = self.world.world.run_until(connection.request("GET", path, ()), 5.0)
        assert isinstance(answer, HTTPAnswer)
        return answer

    def test_over_http(self) -> None:
        """The service shows them, to this machine by default, and its health to all."""
        self.assertEqual(self.ask("/metrics", "198.51.100.20").status, 403)
        answer = self.ask("/health", "198.51.100.21")
        self.assertEqual((answer.status, answer.body), (200, b'{"status": "ok"}\n'))


class BoundedTests(SynchronousTestCase):
    """Whatever strangers say, there are no more labels than the code has."""

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(ResultCode),
                st.none() | st.text() | st.sampled_from(PATHS),
                st.none() | st.floats(0, 1e9),
                NATS,
                NATS,
                st.booleans(),
            ),
            max_size=30,
        )
    )
    def test_labels(
        self,
        told: list[
            tuple[
                ResultCode,
                str | None,
                float | None,
                NATSummary | None,
                NATSummary | None,
                bool,
            ]
        ],
    ) -> None:
        """Labels are of known kinds, and no duration is longer than what was seen."""
        outcomes = Outcomes()
        for code, path, seconds, client, server, observed in told:
            address = Address("192.0.2.1", 5)
            core = ConnectSessionCore(
                Connect(session_id=uuid.UUID(int=1), target=IDENTITIES[0].name),
                bytes(16),
                ConnectionParameters(),
                (),
                lambda core, answer: None,
                started=10.0,
                server_nat=server,
                observed=address if observed else None,
                answer=ConnectResponse(result=ResultCode.OK, udp_endpoints=(address,)),
            )
            result = ConnectionResult(
                session_id=uuid.UUID(int=1),
                result=code,
                path=path,
                connect_time=seconds,
                nat=client,
            )
            outcomes.told(core, result, now=12.0)
        self.assertEqual({*outcomes.by_path}, {*PATHS})
        reasons = {code.label for code in ResultCode} | {"other path"}
        self.assertLessEqual({*outcomes.by_reason}, reasons)
        made, failed = outcomes.by_path.values(), outcomes.by_reason.values()
        self.assertEqual(sum(made) + sum(failed), len(told))
        kinds = {
            *("unknown", "udp-blocked", "cone", "full-cone", "addr-restricted"),
            *("port-restricted", "symmetric", "symmetric-seq", "symmetric-addr"),
            "symmetric-open",
        }
        for client_nat, server_nat, what in outcomes.punches:
            self.assertLessEqual({client_nat, server_nat}, kinds)
            self.assertIn(what, ("direct", "relayed", "failed"))
        longest = 2.0 * len(told)
        for histogram in outcomes.connect_seconds.values():
            self.assertLessEqual(histogram.figures()["sum"], longest)
