"""Framings: a stream is cut where the sender meant it, at every split, and nonsense is told as such."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages.framing import FRAMINGS, Framer, FramingError

HEADERS = ("none", "tpdu", "fixed:3")


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("name", FRAMINGS)
def test_a_stream_cut_at_every_split_yields_the_same_payloads(name: str, header: str) -> None:
    framer = Framer.of(name, header)
    payloads = [b"0800", b"", b"x" * 300]
    stream = framer.frame(payloads[0]) + framer.keepalive + framer.frame(payloads[2])
    for split in range(len(stream) + 1):
        first = framer.cut(stream[:split])
        assert first.error is None
        done = first.frames[-1].end if first.frames else 0
        second = framer.cut(stream[done:])
        assert [frame.payload for frame in first.frames + second.frames] == payloads
        assert second.need == 0
        if first.need:
            assert split - done < first.need <= len(stream) - done


@settings(deadline=None)
@given(st.sampled_from(list(FRAMINGS)), st.sampled_from(HEADERS), st.lists(st.binary(max_size=400), max_size=6))
def test_what_is_framed_is_cut_from_any_kind_of_buffer(name: str, header: str, payloads: list[bytes]) -> None:
    framer = Framer.of(name, header)
    stream = b"".join(framer.frame(payload) for payload in payloads)
    for data in (stream, bytearray(stream), memoryview(stream)):
        cuts = framer.cut(data)
        assert [frame.payload for frame in cuts.frames] == payloads
        assert all(type(frame.payload) is bytes and type(frame.header) is bytes for frame in cuts.frames)
        assert (cuts.need, cuts.error) == (0, None)


@settings(deadline=None)
@given(st.sampled_from(list(FRAMINGS)), st.sampled_from(HEADERS), st.binary(max_size=100))
def test_random_bytes_are_cut_or_refused_but_never_raise(name: str, header: str, data: bytes) -> None:
    cuts = Framer.of(name, header, maximum=50).cut(data)
    assert all(frame.end <= len(data) for frame in cuts.frames)
    assert cuts.error is None or cuts.need == 0


WIRE = {
    "2-byte-be": b"\x00\x03abc",
    "2-byte-be-inclusive": b"\x00\x05abc",
    "2-byte-le": b"\x03\x00abc",
    "4-byte-be": b"\x00\x00\x00\x03abc",
    "4-ascii": b"0003abc",
    "6-ascii": b"000003abc",
    "8-ascii": b"00000003abc",
    "2-byte-bcd": b"\x00\x03abc",
    "4-hex": b"0003abc",
    "2-byte-be-vap": b"\x00\x03\x00\x00abc",
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_the_length_looks_on_the_wire_as_the_framing_says(name: str) -> None:
    assert Framer.of(name).frame(b"abc") == WIRE[name]


def test_bcd_and_hex_lengths_differ_above_nine() -> None:
    assert Framer.of("2-byte-bcd").frame(bytes(26))[:2] == b"\x00\x26"
    assert Framer.of("4-hex").frame(bytes(26))[:4] == b"001A"
    assert Framer.of("4-hex").cut(b"001a" + bytes(26)).frames[0].end == 30


def test_the_length_counts_the_header_and_the_header_is_given_apart() -> None:
    framer = Framer.of("2-byte-be", header="tpdu")
    tpdu = bytes.fromhex("6000010203")
    wire = framer.frame(b"0800", tpdu)
    assert wire == b"\x00\x09" + tpdu + b"0800"
    frame = framer.cut(wire).frames[0]
    assert (frame.header, frame.payload) == (tpdu, b"0800")


def test_an_answer_swaps_the_addresses_of_the_tpdu() -> None:
    assert Framer.of("2-byte-be", "tpdu").answer_header(bytes.fromhex("6012345678")) == bytes.fromhex("6056781234")


def test_an_answer_keeps_a_fixed_header_as_it_is() -> None:
    assert Framer.of("2-byte-be", "fixed:5").answer_header(b"ISO01") == b"ISO01"


def test_without_a_header_of_its_own_a_frame_takes_the_links() -> None:
    assert Framer.of("2-byte-be", "fixed:2", header_default=b"HH").frame(b"x") == b"\x00\x03HHx"
    assert Framer.of("2-byte-be", "tpdu").frame(b"x") == bytes.fromhex("0006600000000078")


def test_a_known_length_says_how_much_is_needed() -> None:
    framer = Framer.of("2-byte-be")
    assert framer.cut(b"").need == 0
    assert framer.cut(b"\x00").need == 2
    assert framer.cut(b"\x01\x00abc").need == 258
    assert framer.cut(b"\x00\x01x\x01\x00abc").need == 258


BAD = [
    ("4-ascii", b"00x3", "digits"),
    ("4-ascii", b"+003abc", "digits"),
    ("4-ascii", b" 003abc", "digits"),
    ("4-ascii", b"1_00", "digits"),
    ("4-hex", b"0x1F", "hexadecimal"),
    ("4-hex", b"-001", "hexadecimal"),
    ("2-byte-bcd", b"\x00\x0a", "nibble"),
    ("2-byte-be-vap", b"\x00\x01\x00\x01x", "zero"),
    ("2-byte-be-inclusive", b"\x00\x01", "below 2"),
    ("2-byte-be-inclusive", b"\x00\x00", "below 2"),
    ("2-byte-be", b"\x40\x00", "maximum"),
    ("4-byte-be", b"\xff\xff\xff\xff", "maximum"),
]


@pytest.mark.parametrize(("name", "data", "reason"), BAD)
def test_a_length_that_cannot_be_right_is_an_error_after_the_good_frames(name: str, data: bytes, reason: str) -> None:
    framer = Framer.of(name)
    good = framer.frame(b"good")
    cuts = framer.cut(good + data)
    assert [frame.payload for frame in cuts.frames] == [b"good"]
    assert isinstance(cuts.error, FramingError)
    assert reason in str(cuts.error)
    assert cuts.error.offset == len(good)


def test_a_body_shorter_than_its_header_is_an_error_but_an_empty_one_is_a_keep_alive() -> None:
    framer = Framer.of("2-byte-be", "tpdu")
    assert "header" in str(framer.cut(b"\x00\x04abcd").error)
    keepalive = framer.cut(b"\x00\x00")
    assert keepalive.error is None
    assert [(frame.start, frame.end, frame.payload) for frame in keepalive.frames] == [(0, 2, b"")]


def test_the_maximum_bounds_header_and_payload_in_both_directions() -> None:
    framer = Framer.of("2-byte-be", "tpdu", maximum=10)
    wire = framer.frame(b"12345")
    assert framer.cut(wire).error is None
    with pytest.raises(FramingError, match="maximum"):
        framer.frame(b"123456")
    assert framer.cut(b"\x00\x0b").error is not None


def test_a_length_that_the_prefix_cannot_tell_is_not_written() -> None:
    with pytest.raises(FramingError, match="9999"):
        Framer.of("2-byte-bcd", maximum=70000).frame(bytes(10000))


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("3-byte", "none"),
        ("2-byte-be", "fixed:x"),
        ("2-byte-be", "fixed"),
        ("2-byte-be", "TPDU"),
        ("2-byte-be", "fixed:5000"),
    ],
)
def test_a_framing_or_header_that_is_unknown_is_refused_at_configuration(name: str, header: str) -> None:
    with pytest.raises(ValueError, match=r"unknown|room"):
        Framer.of(name, header)


def test_no_repr_or_error_holds_the_payload() -> None:
    framer = Framer.of("4-ascii")
    cuts = framer.cut(framer.frame(b"4111111111111111") + b"4111")
    assert "4111111111111111" not in repr(cuts) + str(cuts.error) + repr(framer)
    error = framer.cut(b"41x1111111111111").error
    assert "41x1" not in str(error) + repr(error)
    out_of_step = Framer.of("8-ascii").cut(b"4111111111111111").error
    assert "41111111" not in str(out_of_step) + repr(out_of_step)
