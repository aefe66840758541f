"""One end of a measurement with aioquic, a QUIC in Python.

``receive PORT SECONDS`` and ``send HOST PORT SECONDS``, as in
:mod:`benchmarks.udt_peer`. Needs the package ``aioquic``.
"""

from __future__ import annotations

import asyncio
import datetime
import ssl
import sys
import time
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.usage import cpu_seconds, say

_ALPN = ["benchmark"]
_BLOCK = bytes(1 << 16)
_WINDOW = 1 << 24
_TURN = 0.001


def _with_certificate(configuration: QuicConfiguration) -> QuicConfiguration:
    """Let a server have a certificate of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
    now = datetime.datetime.now(datetime.UTC)
    configuration.private_key = key
    configuration.certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    return configuration


def _configuration(*, is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=_ALPN,
        verify_mode=ssl.CERT_NONE,
        max_data=_WINDOW,
        max_stream_data=_WINDOW,
    )


async def _receive(port: int, seconds: float) -> None:
    done = asyncio.get_running_loop().create_future()

    class Counting(QuicConnectionProtocol):
        """Counts from the first byte on."""

        count = 0
        began = cpu = 0.0

        def quic_event_received(self, event: QuicEvent) -> None:
            if not isinstance(event, StreamDataReceived) or done.done():
                return
            now = time.monotonic()
            if not self.count:
                self.began, self.cpu = now, cpu_seconds()
            self.count += len(event.data)
            if now - self.began >= seconds:
                used = cpu_seconds() - self.cpu
                done.set_result((self.count, now - self.began, used))

    configuration = _with_certificate(_configuration(is_client=False))
    await serve("0.0.0.0", port, configuration=configuration, create_protocol=Counting)
    print("ready", flush=True)
    count, elapsed, cpu = await done
    say(bytes=count, seconds=elapsed, cpu=cpu)


async def _send(host: str, port: int, seconds: float) -> None:
    configuration = _configuration(is_client=True)
    async with connect(host, port, configuration=configuration) as protocol:
        quic: Any = protocol._quic
        stream = quic.get_next_available_stream_id()
        began, cpu, told = time.monotonic(), cpu_seconds(), False
        while True:
            # It has no back-pressure of its own: look at what waits.
            sender = quic._streams[stream].sender if quic._streams else None
            if sender is None or len(sender._buffer) < _WINDOW // 4:
                quic.send_stream_data(stream, _BLOCK)
                protocol.transmit()
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(_TURN)
            elapsed = time.monotonic() - began
            if not told and elapsed >= seconds:
                told = True
                say(cpu=cpu_seconds() - cpu, seconds=elapsed)


def main() -> None:
    """Play the role that the command line names."""
    role, *words = sys.argv[1:]
    if role == "receive":
        asyncio.run(_receive(int(words[0]), float(words[1])))
    else:
        asyncio.run(_send(words[0], int(words[1]), float(words[2])))


if __name__ == "__main__":
    main()
