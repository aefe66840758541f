"""Hypothesis strategies for STUN."""

from hypothesis import strategies as st

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.stun.integrity import TRAILERS
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage

transaction_ids = st.binary(min_size=12, max_size=12)

attributes = st.builds(
    RawAttribute,
    type=st.integers(0, 0xFFFF).filter(lambda number: number not in TRAILERS),
    value=st.binary(max_size=40),
)

messages = st.builds(
    STUNMessage,
    method=st.integers(0, 0xFFF),
    message_class=st.sampled_from(MessageClass),
    transaction_id=transaction_ids,
    attributes=st.lists(attributes, max_size=6).map(tuple),
)

addresses = st.builds(
    Address,
    host=st.ip_addresses().map(str),
    port=st.integers(0, 0xFFFF),
)
