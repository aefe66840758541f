"""``twistd relay --cloud-key FILE --workers 3`` over real sockets."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import connectProtocol

from dwcloud.errors import RelayRefused
from dwcloud.net.identity import ServerIdentity
from dwcloud.net.signing import SigningKey
from dwcloud.peer.relay_client import RelayClientEndpoint
from dwcloud.protocol.grants import RelayGrant
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES

# By name, or their tests would be found here, too.
from tests.integration import test_relay, test_relay_workers


class CloudKeyTests(test_relay_workers.WorkersTestCase):
    """Each worker wants the mediator's grant, by each tunnelling method."""

    def setUp(self) -> Any:
        directory = Path(self.mktemp())
        public = directory / "cloud.pub"
        self.key = SigningKey.load_or_create(directory / "cloud.key", public)
        self.options = (*self.options, "--cloud-key", str(public.absolute()))
        return super().setUp()

    def endpoint(
        self, identity: ServerIdentity, key: SigningKey | None, method: str
    ) -> RelayClientEndpoint:
        """Lead to a server, with a grant if there is a key to sign one."""
        grant = None
        if key is not None:
            issued = RelayGrant.issue(uuid.uuid4(), identity.name, time.time())
            grant = issued.encode(key.sign)
        return RelayClientEndpoint(
            self.reactor, self.url, identity.name, method=method, grant=grant
        )

    @inlineCallbacks
    def test_members_and_strangers(self) -> Any:
        """Servers of each worker get the mediator's clients, and no others."""
        identities = self.identities(3)
        yield self.serve(identities)
        refused = 0
        for identity in identities:
            for method in METHOD_NAMES:
                sender = test_relay.Sender(b"x" * 10_000)
                endpoint = self.endpoint(identity, self.key, method)
                yield connectProtocol(endpoint, sender)
                answer = yield sender.done
                self.assertEqual(answer, sender.data)
                for key in (None, SigningKey.generate()):
                    stranger = self.endpoint(identity, key, method)
                    joining = connectProtocol(stranger, test_relay.Sender(b"x"))
                    yield self.assertFailure(joining, RelayRefused)
                    refused += 1
        figures = yield self.no_tunnels()
        self.assertEqual(figures["ended"]["tunnels"], 3 * len(METHOD_NAMES))
        self.assertEqual(figures["ended"]["refused"]["403"], refused // 2)
