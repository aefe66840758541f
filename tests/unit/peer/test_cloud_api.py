"""Asking a cloud over HTTPS: trust, requests, answers and refusals."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import (
    APIRefused,
    CloudKeyChanged,
    ConnectTimeout,
    NoAccounts,
)
from dwcloud.net.cloud_trust import WEB, Presented, fingerprint
from dwcloud.net.http_messages import Response
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.peer.api_values import (
    Account,
    CloudDescription,
    Fields,
    Grant,
    Invitation,
    System,
    Tokens,
)
from dwcloud.peer.cloud_api import CloudAPI
from dwcloud.peer.known_clouds import KnownCloud
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.testing import BadProxy, Defects
from tests.unit.net.stream_world import Recorder
from tests.unit.peer.api_world import (
    CLOUD,
    CLOUD_KEY,
    DESCRIPTION,
    NAME,
    APITestCase,
    certificate,
    problem,
    read_certificate,
    tokens,
)

GUID = "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"
SYSTEM = {"id": GUID, "name": "garage", "owner": "anna", "role": "owner"}


def shown(number: int = 0) -> str:
    """The fingerprint of a certificate of the tests."""
    return fingerprint(read_certificate(certificate(number)[1]))


class TrustTests(APITestCase):
    """Who is believed to be the cloud."""

    def test_new_cloud_is_remembered(self) -> None:
        """The first contact keeps the key of the certificate and that of grants."""
        self.do(self.api().describe())
        self.assertEqual(self.clouds.get(CLOUD), KnownCloud(shown(), CLOUD_KEY))

    def test_nothing_secret_before_trust(self) -> None:
        """A new cloud is asked for its description before it gets a password."""
        self.cloud.answers["POST /sessions"] = tokens(1)
        seen: list[Presented] = []

        async def confirm(presented: Presented) -> None:
            seen.append(presented)
            self.assertEqual(self.cloud.questions(), ["GET /cloud"])

        api = self.api(confirm=confirm)
        self.do(api.sign_in("anna", "secret"))
        self.assertEqual([each.fingerprint for each in seen], [shown()])
        self.assertFalse(seen[0].vouched)
        self.assertEqual(self.cloud.questions(), ["GET /cloud", "POST /sessions"])

    def test_not_confirmed(self) -> None:
        """Who does not accept the key has sent nothing, and nothing is remembered."""

        async def confirm(presented: Presented) -> None:
            raise ValueError("no")

        asking = self.api(confirm=confirm).sign_in("anna", "secret")
        self.refused(ValueError, asking)
        self.assertEqual(self.cloud.questions(), ["GET /cloud"])
        self.assertIsNone(self.clouds.get(CLOUD))

    def test_known_cloud_is_asked_at_once(self) -> None:
        """A cloud that is known needs no introduction, and nobody is asked."""
        self.do(self.api().describe())
        self.cloud.answers["POST /sessions"] = tokens(1)

        async def confirm(presented: Presented) -> None:
            raise AssertionError("asked again")

        self.do(self.api(confirm=confirm).sign_in("anna", "secret"))
        self.assertEqual(self.cloud.questions()[1:], ["POST /sessions"])

    def test_changed_key(self) -> None:
        """Another key in its place gets nothing, and the error says what to do."""
        self.do(self.api().describe())
        self.cloud.listen(1)
        error = self.refused(CloudKeyChanged, self.api().sign_in("anna", "secret"))
        self.assertIn(shown(0), str(error))
        self.assertIn(shown(1), str(error))
        self.assertIn(f"dwcloud account forget {CLOUD}", str(error))
        self.assertEqual(self.cloud.questions(), ["GET /cloud"])

    def test_forgotten(self) -> None:
        """What was forgotten is learned anew."""
        self.do(self.api().describe())
        self.cloud.listen(1)
        self.clouds.forget(CLOUD)
        self.do(self.api().describe())
        known = self.clouds.get(CLOUD)
        assert known is not None
        self.assertEqual(known.trust, shown(1))

    def test_renewed_certificate(self) -> None:
        """A new certificate of the same key is the same cloud."""
        self.do(self.api().describe())
        # The one of the tests is valid for a hundred years; only its key counts.
        self.assertEqual(self.clouds.get(CLOUD), KnownCloud(shown(), CLOUD_KEY))
        self.cloud.listen(0)
        self.do(self.api().describe())

    def test_vouched(self) -> None:
        """What an authority vouches for is believed whatever its key, and later too."""
        authorities = str(certificate(0)[1])
        api = self.api(authorities=authorities)
        self.do(api.describe())
        self.assertEqual(self.clouds.get(CLOUD), KnownCloud(WEB, CLOUD_KEY))
        self.cloud.listen(1)
        self.do(self.api(authorities=str(certificate(1)[1])).describe())

    def test_vouched_no_more(self) -> None:
        """Who had an authority cannot come back without one."""
        self.do(self.api(authorities=str(certificate(0)[1])).describe())
        self.cloud.listen(1)
        error = self.refused(CloudKeyChanged, self.api().describe())
        self.assertIn("it is signed by itself", str(error))
        self.assertIn("forget", str(error))

    def test_vouched_for_another_name(self) -> None:
        """An authority vouches for one name only."""
        other = "other.example.org"
        self.world.add_name(other, self.host.address)
        api = CloudAPI(
            self.client.reactor,
            MediatorAddress.parse(other),
            self.clouds,
            authorities=str(certificate(0)[1]),
        )
        self.addCleanup(api.close)
        self.do(api.describe())
        known = self.clouds.get(f"{other}:3345")
        self.assertEqual(known, KnownCloud(shown(), CLOUD_KEY))

    def test_expected_key(self) -> None:
        """A key that the operator told is demanded, and kept, not an authority."""
        authorities = str(certificate(0)[1])
        wrong = self.api(expected=shown(1), authorities=authorities).describe()
        error = self.refused(CloudKeyChanged, wrong)
        self.assertIn("not the expected", str(error))
        self.do(self.api(expected=shown(), authorities=authorities).describe())
        self.assertEqual(self.clouds.get(CLOUD), KnownCloud(shown(), CLOUD_KEY))

    def test_changed_cloud_key(self) -> None:
        """The key of grants does not change unnoticed either."""
        self.clouds.set(CLOUD, KnownCloud(shown(), bytes(32)))
        error = self.refused(CloudKeyChanged, self.api().describe())
        self.assertIn("signs with another key", str(error))


class RequestTests(APITestCase):
    """Questions and answers."""

    def setUp(self) -> None:
        """Know the cloud."""
        super().setUp()
        self.do(self.api().describe())
        self.cloud.asked.clear()

    def test_description(self) -> None:
        """What the cloud says of itself."""
        description = self.do(self.api().describe())
        self.assertEqual(description, CloudDescription("1", CLOUD_KEY, "open"))

    def test_one_connection(self) -> None:
        """Requests one after the other use the same connection."""
        api = self.api()
        self.do(api.describe())
        before = list(self.client.connections)
        self.do(api.describe())
        self.assertEqual(list(self.client.connections), before)

    def test_systems(self) -> None:
        """A list with all that is known of each."""
        entry = {
            **SYSTEM,
            "public": True,
            "web": False,
            "state": "online",
            "servers": [{"id": GUID, "online": True, "since": 5}],
        }
        self.cloud.answers["GET /systems"] = (200, {"systems": [entry]})
        (system,) = self.do(self.api().systems("token"))
        self.assertEqual(system.name, "garage")
        self.assertEqual(system.peer, PeerName.parse(GUID))
        self.assertTrue(system.public)
        self.assertTrue(system.servers[0].online)
        (asked,) = self.cloud.asked
        self.assertEqual(asked.token, "token")

    def test_long_list(self) -> None:
        """Hundreds of systems are more than a short answer."""
        entries = [{**SYSTEM, "name": f"system-{n}"} for n in range(2000)]
        self.cloud.answers["GET /systems"] = (200, {"systems": entries})
        self.assertEqual(len(self.do(self.api().systems("token"))), 2000)

    def test_grant(self) -> None:
        """A grant is asked for a system, or for one server of it."""
        self.cloud.answers[f"POST /systems/{GUID}/grants"] = (
            201,
            {"grant": "YWJj", "expires": "2030-01-01T00:00:00Z"},
        )
        peer = PeerName.parse(f"{GUID}.{GUID}")
        grant = self.do(self.api().grant("token", peer, bytes(32)))
        self.assertEqual(grant, Grant(b"abc", 1893456000.0))
        self.assertEqual(self.cloud.asked[0].value["server"], GUID)
        self.do(self.api().grant("token", PeerName.parse(GUID), bytes(32)))
        self.assertNotIn("server", self.cloud.asked[1].value)

    def test_names_in_paths(self) -> None:
        """What a person types cannot leave its place in the path."""
        api = self.api()
        system = PeerName.parse(GUID).system
        self.refused(NoAccounts, api.share("t", system, "../../x?y", "viewer"))
        self.assertEqual(
            self.cloud.questions(),
            [f"PUT /systems/{GUID}/members/..%2F..%2Fx%3Fy"],
        )

    def test_nothing_to_answer(self) -> None:
        """An answer without a body is one."""
        self.cloud.answers["DELETE /sessions/current"] = (204, None)
        self.assertIsNone(self.do(self.api().sign_out("token")))

    def test_refusal(self) -> None:
        """A refusal has words, a code, and when to come back."""
        self.cloud.answers["POST /sessions"] = Response(
            429,
            json.dumps({"code": "locked", "detail": "Wait\x1b[2J."}).encode(),
            "application/problem+json",
            (("Retry-After", "60"),),
        )
        error = self.refused(APIRefused, self.api().sign_in("anna", "x"))
        self.assertEqual(
            (error.status, error.code, error.retry_after), (429, "locked", 60)
        )
        self.assertEqual(str(error), "Wait[2J.")

    def test_no_accounts(self) -> None:
        """A mediator without accounts is told from one that refuses."""
        self.cloud.answers.clear()
        error = self.refused(NoAccounts, self.api().describe())
        self.assertIn("twistd mediator --accounts", str(error))

    def test_no_https(self) -> None:
        """A service that knows no TLS is not taken for a broken network."""

        class Silent(Recorder):
            def dataReceived(self, data: bytes) -> None:
                self.transport.loseConnection()

        self.cloud.listen(port=9)
        self.host.reactor.listenTCP(3345, Factory.forProtocol(Silent))
        error = self.refused(NoAccounts, self.api().describe())
        self.assertIn("does not speak HTTPS", str(error))

    def test_unreachable(self) -> None:
        """Nobody listens."""
        self.cloud.listen(port=9)
        self.refused(ConnectError, self.api().describe())

    def test_silent(self) -> None:
        """Who does not answer is given up."""
        self.cloud.listen(port=9)
        self.host.reactor.listenTCP(3345, Factory.forProtocol(Recorder))
        self.refused(ConnectTimeout, self.api(timeout=2.0).describe())

    def test_stale_connection(self) -> None:
        """A connection that the far end has closed meanwhile is replaced."""
        api = self.api()
        self.do(api.describe())
        self.world.advance(60.0)
        self.do(api.describe())
        self.assertEqual(len(self.cloud.asked), 2)

    def test_proxy(self) -> None:
        """The way leads through the proxy of the environment."""
        proxy_host = self.internet.host("203.0.113.8", name="proxy")
        proxy = BadProxy(proxy_host.reactor)
        proxy_host.reactor.listenTCP(3128, proxy)
        settings = ProxySettings.of(Proxy("203.0.113.8", 3128))
        proxies = Proxies(self.client.reactor, settings)
        self.do(self.api(proxies=proxies).describe())
        self.assertEqual(proxy.requests, [("CONNECT", f"{NAME}:3345")])

    def test_web_port(self) -> None:
        """Where the mediator's port is out of reach, that of web pages may do."""
        self.cloud.listen(port=443)
        self.cloud.answers["GET /systems"] = (200, {"systems": []})
        api = self.api()
        self.assertEqual(self.do(api.systems("token")), ())
        self.assertEqual(self.do(api.systems("token")), ())
        self.assertEqual(
            self.cloud.questions(), ["GET /cloud", "GET /systems", "GET /systems"]
        )

    def test_web_port_through_a_proxy(self) -> None:
        """A proxy that connects to port 443 alone is enough."""
        self.cloud.listen(port=443)
        proxy_host = self.internet.host("203.0.113.8", name="proxy")
        proxy = BadProxy(proxy_host.reactor, Defects(connect_ports=(443,)))
        proxy_host.reactor.listenTCP(3128, proxy)
        settings = ProxySettings.of(Proxy("203.0.113.8", 3128))
        proxies = Proxies(self.client.reactor, settings)
        self.do(self.api(proxies=proxies).describe())
        self.assertEqual(
            proxy.requests, [("CONNECT", f"{NAME}:3345"), ("CONNECT", f"{NAME}:443")]
        )

    def test_somebody_else_at_the_web_port(self) -> None:
        """Another web server there gets no secret, and the first reason is told."""
        self.cloud.listen(1, port=443)
        error = self.refused(ConnectError, self.api().systems("token"))
        self.assertNotIsInstance(error, CloudKeyChanged)
        self.assertEqual(self.cloud.questions(), [])

    def test_other_cloud_at_the_web_port(self) -> None:
        """A cloud that signs with another key is not the same."""
        self.cloud.listen(0, port=443)
        other = dict(DESCRIPTION, cloud_key=base64.b64encode(bytes(32)).decode())
        self.cloud.answers["GET /cloud"] = (200, other)
        self.refused(ConnectError, self.api().systems("token"))
        self.assertEqual(self.cloud.questions(), ["GET /cloud"])

    def test_concurrent(self) -> None:
        """Two questions at once are both answered."""
        api = self.api()
        asking = [Deferred.fromCoroutine(api.describe()) for _ in range(2)]
        self.assertEqual(len(self.world.run_until(gatherResults(asking))), 2)


NAMES = (
    *("id", "name", "owner", "role", "servers", "state", "account", "grant"),
    *("expires", "expires_in", "access_token", "refresh_token", "cloud_key"),
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=8)
    ),
    max_leaves=12,
)


class AnswerTests(SynchronousTestCase):
    """Reading answers that anybody may have written."""

    @given(JSON_VALUES)
    def test_any_value(self, value: Any) -> None:
        """Whatever comes is read, or refused as no answer."""
        for kind in (
            Account,
            CloudDescription,
            Grant,
            Invitation,
            System,
            Tokens,
        ):
            try:
                kind.read(Fields.of(value))  # type: ignore[attr-defined]
            except APIRefused as e:
                self.assertEqual(e.code, "malformed")

    def test_token_with_line_break(self) -> None:
        """A token cannot bring further header fields."""
        value = dict(tokens(1)[1])
        value["access_token"] = "a\r\nX: y"
        self.assertRaises(APIRefused, Tokens.read, Fields.of(value))

    def test_name_with_escapes(self) -> None:
        """A name cannot move the cursor of whoever lists it."""
        value = {**SYSTEM, "name": "\x1b[2Jgarage"}
        self.assertRaises(APIRefused, System.read, Fields.of(value))

    def test_problem_is_no_answer(self) -> None:
        """The helper of these tests writes what is refused."""
        status, value = problem(401, "bad_credentials")
        self.assertEqual((status, value["code"]), (401, "bad_credentials"))
