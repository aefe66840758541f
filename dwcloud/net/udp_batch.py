"""UDP in batches by the segmentation of the Linux kernel.

``UDP_SEGMENT`` (udp(7)) sends many datagrams of equal size in one system call and
``UDP_GRO`` receives as many; both work through ancillary data of the standard
:mod:`socket` module. What UDP costs in Python is calls for each packet, so one path
through the kernel for up to 64 packets is worth a factor of ten.

Twisted's own UDP port has no place for ancillary data.
"""

from __future__ import annotations

import errno
import functools
import socket
import struct
import sys
from typing import Any

from dwcloud.net.udp_direct import CLOSED, DirectUDPPort, descriptors_available
from dwcloud.net.udp_port import segments

__all__ = ["BatchedUDPPort", "offload_available"]

# linux/udp.h; the socket module of Python 3.11 does not name them.
_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104

_MAX_SEGMENTS = 64
"""UDP_MAX_SEGMENTS of the kernels before 6.x; later ones allow more."""

_MAX_PAYLOAD = {socket.AF_INET: 65507, socket.AF_INET6: 65527}
"""Bytes of UDP payload in one IP packet, which a batch is for most of the stack."""

_SEGMENT_SIZE = struct.Struct("=H")
_GRO_SIZE = struct.Struct("=i")
_ANCILLARY_SPACE = 64

_MAX_UNSEGMENTABLE = 256

# The path to this address cannot take the batch although it may take datagrams:
# a device without checksums (EIO), a path MTU below the segment (EMSGSIZE, EINVAL).
_NOT_SEGMENTABLE = frozenset({errno.EIO, errno.EMSGSIZE, errno.EINVAL})


@functools.cache
def _kernel_segments() -> bool:
    """Tell whether this kernel knows both socket options."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(_SOL_UDP, _UDP_GRO, 1)
            probe.setsockopt(_SOL_UDP, _UDP_SEGMENT, 1200)
            probe.setsockopt(_SOL_UDP, _UDP_SEGMENT, 0)
    except OSError:
        return False
    return True


def offload_available(reactor: Any) -> bool:
    """Tell whether :class:`BatchedUDPPort` works on this machine and reactor."""
    return descriptors_available(reactor) and _kernel_segments()


class BatchedUDPPort(DirectUDPPort):
    """A port that hands whole batches to the kernel and takes whole batches from it.

    Parameters are those of :class:`~dwcloud.net.udp_direct.DirectUDPPort`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._max_payload = _MAX_PAYLOAD[self._family]
        self._unsegmentable: set[tuple[str, int]] = set()

    def _prepare(self, opened: socket.socket) -> None:
        opened.setsockopt(_SOL_UDP, _UDP_GRO, 1)

    def send(
        self,
        data: bytes | bytearray,
        segment_size: int | None,
        address: tuple[str, int],
    ) -> None:
        """See :meth:`dwcloud.net.udp_port.DatagramPort.send`."""
        if segment_size is None or len(data) <= segment_size:
            self._send_one(data, address)
            return
        if address in self._unsegmentable:
            self._send_singly(data, segment_size, address)
            return
        step = segment_size * min(_MAX_SEGMENTS, self._max_payload // segment_size)
        if len(data) <= step:
            self._send_batch(data, segment_size, address)
            return
        for part in segments(memoryview(data), step):
            self._send_batch(part, segment_size, address)

    def _send_batch(
        self,
        data: bytes | bytearray | memoryview,
        segment_size: int,
        address: tuple[str, int],
    ) -> None:
        """Send datagrams of equal size by one call, or singly where that fails."""
        count = -(-len(data) // segment_size)
        if self._socket is None:
            self._lost(count, CLOSED)
            return
        try:
            self._socket.sendmsg(
                (data,),
                ((_SOL_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(segment_size)),),
                0,
                address,
            )
        except OSError as error:
            if error.errno in _NOT_SEGMENTABLE:
                self._note_unsegmentable(address, error)
                self._send_singly(data, segment_size, address)
            else:
                self._lost(count, error)
        else:
            self._sent(count, len(data))

    def _note_unsegmentable(self, address: tuple[str, int], error: OSError) -> None:
        # The set is a cache: forgetting it costs one failed call an address.
        if len(self._unsegmentable) >= _MAX_UNSEGMENTABLE:
            self._unsegmentable.clear()
        self._unsegmentable.add(address)
        self._log.debug(
            "{port} sends to {address} without kernel segmentation: {error}",
            port=self,
            address=address,
            error=error,
        )

    def _receive(self, opened: socket.socket) -> tuple[int, int, tuple[str, int]]:
        size, ancillary, _, address = opened.recvmsg_into(
            (self._collector.room,), _ANCILLARY_SPACE
        )
        for level, kind, value in ancillary:
            if (level, kind) == (_SOL_UDP, _UDP_GRO):
                (segment_size,) = _GRO_SIZE.unpack(value[: _GRO_SIZE.size])
                return size, min(size, segment_size), address[:2]
        return size, size, address[:2]
