"""BER-TLV of DE55: objects are found and built, and the cardholder's ones are taken out of an issuer's answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages.iso8583.bertlv import CARDHOLDER, build, parse, without_cardholder_data

TAGS = st.sampled_from(["82", "91", "9F26", "9F10", "DF8101", "5F2A", "71"])
OBJECTS = st.lists(st.tuples(TAGS, st.binary(max_size=400)), max_size=6)


@settings(deadline=None)
@given(OBJECTS)
def test_what_is_built_is_parsed_again(objects: list[tuple[str, bytes]]) -> None:
    assert parse(build(objects)) == objects


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_are_parsed_or_refused_as_a_value_error(data: bytes) -> None:
    try:
        objects = parse(data)
    except ValueError:
        return
    assert parse(build(objects)) == objects


def test_tags_and_lengths_of_several_bytes_are_read() -> None:
    long = bytes(300)
    assert parse(bytes.fromhex("9F2602AABB DF810101CC 8482012C") + long) == [
        ("9F26", b"\xaa\xbb"),
        ("DF8101", b"\xcc"),
        ("84", long),
    ]


def test_zero_bytes_between_objects_are_padding() -> None:
    assert parse(bytes.fromhex("0000 9A03201122 00")) == [("9A", bytes.fromhex("201122"))]


@pytest.mark.parametrize(
    "data", ["9F", "9F26", "9F2608AA", "9F80818283 00", "8480", "8484 00000001 AA", "84", "8482 01"]
)
def test_what_is_cut_off_or_indefinite_is_refused_with_its_place(data: str) -> None:
    with pytest.raises(ValueError, match="byte"):
        parse(bytes.fromhex(data))


@pytest.mark.parametrize("tag", sorted(CARDHOLDER))
def test_cardholder_data_are_taken_out_also_from_templates(tag: str) -> None:
    issuer = [("91", bytes(10)), ("72", build([("86", b"script")]))]
    assert without_cardholder_data(build([*issuer, (tag, b"secret")])) == build(issuer)
    assert b"secret" not in without_cardholder_data(build([*issuer, ("77", build([(tag, b"secret"), ("82", b"xx")]))]))


def test_issuer_data_alone_stay_byte_for_byte_with_their_padding() -> None:
    data = bytes.fromhex("00 910A01020304050607083030 8A023030 7106860484240000 00")
    assert without_cardholder_data(data) is data


def test_a_script_that_is_no_tlv_inside_stays_as_it_is() -> None:
    data = bytes.fromhex("7203AABBCC")
    assert without_cardholder_data(data) == data


def nested(levels: int, innermost: bytes) -> bytes:
    for _ in range(levels):
        innermost = build([("77", innermost)])
    return innermost


def test_templates_are_looked_into_as_deep_as_anyone_nests_them() -> None:
    assert b"secret" not in without_cardholder_data(nested(15, build([("5A", b"secret"), ("82", b"xx")])))


def test_templates_that_nest_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match="too deeply"):
        without_cardholder_data(nested(2000, build([("5A", b"secret")])))
