"""A UDT connection of messages instead of a stream: UDT's datagram mode."""

from __future__ import annotations

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.udt.connection import Connection
from dwcloud.protocol.udt.message_receiving import MessageReceiver
from dwcloud.protocol.udt.message_sending import MessageSender
from dwcloud.protocol.udt.packets import MessageDropRequest, Packet
from dwcloud.protocol.udt.states import FLOWING, INITIATING

__all__ = ["MessageConnection"]


class MessageConnection(Connection):
    """One connection of a multiplexer whose socket type is ``DATAGRAM``.

    :class:`~dwcloud.protocol.udt.events.DataAvailable` tells of messages to read;
    everything else is as with streams, but :meth:`write` and :meth:`read` are refused.
    """

    @property
    def maximum_message_size(self) -> int:
        """The most bytes of a message; 0 before the connection is up.

        It is what the peer's receive buffer holds: a larger message could never be
        complete there.
        """
        if self._peer is None or not isinstance(self._sender, MessageSender):
            return 0
        window = min(
            self._peer.flow_window_packets, self._configuration.flight_window_packets
        )
        # The reference library holds one packet less than it announces.
        return (window - 1) * self._sender.buffer.payload_size

    @property
    def readable_messages(self) -> int:
        """How many messages :meth:`read_message` can return."""
        receiver = self._receiver
        if not isinstance(receiver, MessageReceiver):
            return 0
        return receiver.buffer.readable_messages

    @property
    def messages_expired(self) -> int:
        """Messages sent whose time was over before they were delivered."""
        sender = self._sender
        if not isinstance(sender, MessageSender):
            return 0
        return sender.buffer.messages_expired

    @property
    def messages_discarded(self) -> int:
        """Messages received in part, of which the rest never came."""
        receiver = self._receiver
        if not isinstance(receiver, MessageReceiver):
            return 0
        return receiver.buffer.messages_discarded

    def write(self, data: bytes, *, now: float) -> None:
        """Refuse: see :meth:`send_message`.

        :raises LocalProtocolError: always.
        """
        raise LocalProtocolError("write on a connection of messages")

    def read(self, limit: int | None = None) -> bytes:
        """Refuse: see :meth:`read_message`.

        :raises LocalProtocolError: always.
        """
        raise LocalProtocolError("read on a connection of messages")

    def send_message(
        self,
        data: bytes,
        *,
        now: float,
        ttl: float | None = None,
        in_order: bool = True,
    ) -> None:
        """Queue a message for the peer; to heed the limit is the caller's affair.

        When the peer has ended the connection it is dropped, as the event that tells
        so may not have been seen yet.

        :param ttl: seconds after which it need not be delivered any more; None for
            ever. The reference library loses other messages with it.
        :param in_order: deliver it after all messages sent before it.
        :raises LocalProtocolError: before the connection is up or after
            :meth:`close`; or if the message is empty or larger than
            :attr:`maximum_message_size`.
        """
        if not data:
            raise LocalProtocolError("a message has at least one byte")
        if self.state in INITIATING:
            raise LocalProtocolError("send_message before the connection is up")
        if not self._may_write():
            return
        sender = self._sender
        assert isinstance(sender, MessageSender)
        # [udt:message-size]
        if len(data) > self.maximum_message_size:
            raise LocalProtocolError(
                f"a message of {len(data)} bytes is larger than the peer's buffer "
                f"of {self.maximum_message_size}"
            )
        deadline = None if ttl is None else now + ttl
        sender.buffer.append_message(bytes(data), in_order, deadline)
        self._written()

    def read_message(self) -> bytes | None:
        """Take the next received message, or None."""
        receiver = self._receiver
        if not isinstance(receiver, MessageReceiver):
            return None
        self._data_announced = False
        message = receiver.read_message()
        self._was_read()
        return message

    def _other_received(self, packet: Packet, now: float) -> None:
        receiver = self._receiver
        if isinstance(packet, MessageDropRequest) and self.state in FLOWING:
            assert isinstance(receiver, MessageReceiver)
            receiver.message_dropped(packet, now)
