"""ISO 8583 messages of any kind, whole and damaged, in every shipped dialect: used for all they are for, or refused silently.

What has to hold stands in oracles.py.
"""

import functools

import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iso8583_samples import APPROVALS, PAN, purchase_mti, sample
from test_iso8583_dialect import values_of

from messages.iso8583 import Iso8583Codec, Iso8583Options, shipped_dialects
from messages.iso8583.mti import KINDS
from messages.message import Kind, MessageError

NAMES = shipped_dialects()
SECRETS = (PAN, PAN[6:12], "28121011234567890", "0123456789ABCDEF")  # the PAN and its middle, the track, the PIN block


@functools.cache
def codec(name: str) -> Iso8583Codec:
    return Iso8583Codec(Iso8583Options(dialect=name))


def alike(name: str) -> list[str]:
    """The dialects that a message of this one is brought into: all of its version, itself too."""
    return [other for other in NAMES if codec(other).dialect.version == codec(name).dialect.version]


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, str, bytes]:
    """Dialect, another one, and a message of any class and function with any fields that it may have."""
    name = draw(st.sampled_from(NAMES))
    dialect = codec(name).dialect
    mti = draw(st.sampled_from(sorted(KINDS[dialect.version])))
    numbers = draw(st.sets(st.sampled_from(list(dialect.fields)), max_size=10))
    fields = {number: draw(values_of(dialect.fields[number])) for number in sorted(numbers)}
    if KINDS[dialect.version][mti] is Kind.ANSWER:
        fields[39] = APPROVALS[dialect.version]
    raw = {number: dialect.encode_field(number, value) for number, value in fields.items()}
    empty = draw(st.sampled_from([{}, {}, {1: b""}, {65: b""}]))  # extension bitmaps without fields
    return name, draw(st.sampled_from(alike(name))), dialect.assemble(mti, raw | empty)


@settings(deadline=None, max_examples=200)
@given(messages())
def test_a_message_of_any_kind_serves_all_it_is_for(case: tuple[str, str, bytes]) -> None:
    name, other, payload = case
    assert oracles.iso8583_payload(codec(name), payload, codec(other)), "a message that we wrote is refused"


@functools.cache
def marked(name: str) -> bytes:
    """A purchase with the marker PAN, its track, a PIN block and chip data."""
    version = codec(name).dialect.version
    return codec(name).dialect.encode(purchase_mti(version), sample(version))


def check_damaged(name: str, payload: bytes) -> None:
    try:
        codec(name).decode(payload)
    except MessageError as error:
        told = f"{error} {error!r} {error.reason} {error.field}"
        assert not [secret for secret in SECRETS if secret in told]
    oracles.iso8583_payload(codec(name), payload)


@pytest.mark.parametrize("name", NAMES)
def test_a_message_cut_off_anywhere_is_refused_where_it_ends(name: str) -> None:
    payload = marked(name)
    for end in range(len(payload)):
        with pytest.raises(MessageError) as caught:
            codec(name).decode(payload[:end])
        assert caught.value.offset is not None and caught.value.offset <= end
        check_damaged(name, payload[:end])


@pytest.mark.parametrize("name", NAMES)
def test_no_turned_bit_tells_anything(name: str) -> None:
    payload = marked(name)
    for at in range(len(payload)):
        for bit in (at % 8, (at + 5) % 8):
            turned = bytearray(payload)
            turned[at] ^= 1 << bit
            check_damaged(name, bytes(turned))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(NAMES), st.data())
def test_bytes_put_in_or_taken_out_tell_nothing(name: str, data: st.DataObject) -> None:
    payload = bytearray(marked(name))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload)))
        payload[at : at + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=12))
    check_damaged(name, bytes(payload))


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_chip_data_are_read_the_same_when_written_again_and_rid_of_the_cardholders(data: bytes) -> None:
    oracles.bertlv(data)
