"""Which of a relay's processes a request belongs to."""

from __future__ import annotations

import random
import uuid

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.paths import (
    STATISTICS_PATH,
    client_sessions_path,
    client_tunnel_path,
    new_tunnel_path,
    server_tunnel_path,
)
from dwcloud.protocol.relaying.worker_homes import home_of, session_bytes

guids = st.uuids()
counts = st.integers(1, 64)


class HomeTests(SynchronousTestCase):
    @given(guids, guids, guids, counts)
    def test_of_a_system(
        self, server: uuid.UUID, other: uuid.UUID, system: uuid.UUID, workers: int
    ) -> None:
        """Servers of a system and their clients meet, whatever the method and case."""
        name = PeerName(system, server)
        paths = [
            f"{server_tunnel_path(name)}/upgrade",
            f"{server_tunnel_path(name)}/get_post?tunnel={other.hex}",
            f"{new_tunnel_path(name)}/upgrade",
            f"{new_tunnel_path(PeerName(system))}/post?tunnel={other.hex}",
            client_sessions_path(name),
            client_sessions_path(PeerName(system, other)),
            client_sessions_path(PeerName(system)),
            client_sessions_path(PeerName(system)).replace(
                str(system), str(system).upper()
            ),
        ]
        (home,) = {home_of(path, workers) for path in paths}
        assert home is not None
        self.assertIn(home, range(workers))

    @given(st.integers(), counts, st.data())
    def test_of_a_session(self, seed: int, workers: int, data: st.DataObject) -> None:
        """A session's tunnels come to the process that chose its id."""
        number = data.draw(st.integers(0, workers - 1))
        draw = session_bytes(number, workers, random.Random(seed).randbytes)
        path = client_tunnel_path(draw(16).hex())
        self.assertEqual(home_of(f"{path}/upgrade", workers), number)
        self.assertEqual(home_of(f"{path}/post?tunnel={'0' * 32}", workers), number)

    @given(guids, counts)
    def test_of_a_probe(self, tunnel: uuid.UUID, workers: int) -> None:
        """The requests of a tunnel that leads nowhere meet by its id."""
        target = f"/tunnel_probe/get_post?tunnel={tunnel.hex}"
        self.assertEqual(home_of(target, workers), tunnel.int % workers)

    @given(st.text())
    def test_any_target(self, target: str) -> None:
        """Nonsense belongs to somebody or to nobody, and is no error."""
        self.assertIn(home_of(target, 3), (None, 0, 1, 2))

    def test_nobody(self) -> None:
        """What any process can answer, any does."""
        for target in ("/", STATISTICS_PATH, "/tunnel_probe/upgrade", "/x?tunnel=1"):
            self.assertIsNone(home_of(target, 3))

    def test_spread(self) -> None:
        """Systems are spread over all processes."""
        source = random.Random(1)
        homes = [
            home_of(client_sessions_path(PeerName(uuid.UUID(int=guid))), 4)
            for guid in (source.getrandbits(128) for _ in range(1000))
        ]
        for worker in range(4):
            self.assertGreater(homes.count(worker), 150)
