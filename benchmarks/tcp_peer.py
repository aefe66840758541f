"""One end of a measurement with the kernel's TCP.

``receive PORT SECONDS`` and ``send HOST PORT SECONDS CONTROL``, as in
:mod:`benchmarks.udt_peer`; CONTROL is the name of a congestion control.
"""

from __future__ import annotations

import socket
import sys
import time

from benchmarks.usage import cpu_seconds, say

_BLOCK = bytes(1 << 18)


def _receive(port: int, seconds: float) -> None:
    with socket.create_server(("", port)) as listener:
        print("ready", flush=True)
        accepted, _ = listener.accept()
    buffer = bytearray(1 << 20)
    count = accepted.recv_into(buffer)
    began, cpu, elapsed = time.monotonic(), cpu_seconds(), 0.0
    while elapsed < seconds:
        count += accepted.recv_into(buffer)
        elapsed = time.monotonic() - began
    say(bytes=count, seconds=elapsed, cpu=cpu_seconds() - cpu)


def _send(host: str, port: int, seconds: float, control: str) -> None:
    with socket.socket() as connection:
        connection.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode()
        )
        connection.connect((host, port))
        began, cpu, told = time.monotonic(), cpu_seconds(), False
        going = True
        while going:
            try:
                connection.sendall(_BLOCK)
            except ConnectionError:
                # The far end has counted enough; a slow path may have held us.
                going = False
            elapsed = time.monotonic() - began
            if not told and (elapsed >= seconds or not going):
                told = True
                say(cpu=cpu_seconds() - cpu, seconds=elapsed)


def main() -> None:
    """Play the role that the command line names."""
    role, *words = sys.argv[1:]
    if role == "receive":
        _receive(int(words[0]), float(words[1]))
    else:
        _send(words[0], int(words[1]), float(words[2]), words[3])


if __name__ == "__main__":
    main()
