"""Dialects: values come back, raw fields pass byte for byte, and garbage is told without its content."""

import string
from pathlib import Path

import iso8583
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iso8583_samples import PAN, purchase_mti, sample

from messages.iso8583 import Dialect, load_dialect, shipped_dialects
from messages.iso8583.field import Field
from messages.message import MessageError

ALPHABETS = {
    "n": string.digits,
    "a": string.ascii_letters + " ",
    "an": string.ascii_letters + string.digits + " ",
    "ns": string.digits + string.punctuation,
    "ans": string.ascii_letters + string.digits + string.punctuation + " ",
    "ansb": "".join(map(chr, range(256))),
    "z": string.digits + "=",
}


def values_of(field: Field) -> st.SearchStrategy[str]:
    notation = field.notation
    least = 0 if notation.indicator else notation.length
    if notation.type == "b":
        return st.binary(min_size=least, max_size=notation.length).map(lambda data: data.hex().upper())
    if notation.type == "x+n":
        digits = st.text(string.digits, min_size=notation.length - 1, max_size=notation.length - 1)
        return st.builds(lambda sign, amount: sign + amount, st.sampled_from("CD"), digits)
    return st.text(ALPHABETS[notation.type], min_size=least, max_size=min(notation.length, 60 if not least else 999))


@st.composite
def messages(draw: st.DrawFn) -> tuple[Dialect, dict[int, str]]:
    dialect = load_dialect(draw(st.sampled_from(shipped_dialects())))
    numbers = draw(st.sets(st.sampled_from(list(dialect.fields)), max_size=12))
    return dialect, {number: draw(values_of(dialect.fields[number])) for number in sorted(numbers)}


@settings(deadline=None)
@given(messages())
def test_every_field_of_every_shipped_dialect_survives_encoding_and_decoding(
    case: tuple[Dialect, dict[int, str]],
) -> None:
    dialect, fields = case
    payload = dialect.encode("0200", fields)
    message = dialect.decode(payload)
    assert (message.mti, message.fields) == ("0200", fields)
    assert dialect.assemble("0200", message.raw) == payload
    assert {number: dialect.encode_field(number, value) for number, value in fields.items()} == message.raw


@settings(deadline=None)
@given(st.sampled_from(shipped_dialects()), st.binary(max_size=200))
def test_random_bytes_are_decoded_or_refused_as_no_message(name: str, payload: bytes) -> None:
    check_robust(load_dialect(name), payload)


@settings(deadline=None)
@given(st.sampled_from(shipped_dialects()), st.integers(0, 400), st.integers(0, 255), st.integers(0, 10))
def test_a_message_with_one_wrong_or_missing_piece_is_decoded_or_refused(
    name: str, at: int, byte: int, cut: int
) -> None:
    dialect = load_dialect(name)
    payload = bytearray(dialect.encode(purchase_mti(dialect.version), sample(dialect.version)))
    payload[at % len(payload)] = byte
    check_robust(dialect, bytes(payload))
    del payload[at % len(payload) : at % len(payload) + cut]
    check_robust(dialect, bytes(payload))


def check_robust(dialect: Dialect, payload: bytes) -> None:
    try:
        message = dialect.decode(payload)
    except MessageError as error:
        assert error.field
        assert error.__context__ is None or not isinstance(error.__context__, iso8583.DecodeError)
        return
    again = dialect.decode(dialect.assemble(message.mti, message.raw))
    assert again.fields == message.fields


@pytest.mark.parametrize("name", shipped_dialects())
def test_a_full_message_passes_through_its_raw_fields(name: str) -> None:
    dialect = load_dialect(name)
    fields = sample(dialect.version)
    payload = dialect.encode(purchase_mti(dialect.version), fields)
    message = dialect.decode(payload)
    assert message.fields == fields
    assert dialect.assemble(message.mti, message.raw) == payload


@pytest.mark.parametrize("name", shipped_dialects())
def test_the_version_has_every_data_element_from_2_to_128(name: str) -> None:
    assert list(load_dialect(name).fields) == [number for number in range(2, 129) if number != 65]


def test_the_encodings_look_on_the_wire_as_they_should() -> None:
    fields = {2: "4111111111111111", 22: "051", 28: "D00000012", 35: "4111=28", 41: "TERM0001"}
    assert load_dialect("iso87-ascii").encode("0200", fields) == (
        b"02004000041020800000164111111111111111051D00000012074111=28TERM0001"
    )
    assert load_dialect("iso87-binary").encode("0200", fields) == (
        bytes.fromhex("0200 4000041020800000 16 4111111111111111 0051 44 00000012 07 04111D28") + b"TERM0001"
    )
    assert load_dialect("iso87-ebcdic").encode("0200", fields) == (
        bytes.fromhex("F0F2F0F0 4000041020800000")
        + "16411111111111111105".encode("cp500")
        + "1D00000012074111=28TERM0001".encode("cp500")
    )


def test_chip_data_are_bytes_with_a_count_of_bytes_also_in_ascii() -> None:
    assert load_dialect("iso87-ascii").encode_field(55, "9A03201122") == b"005" + bytes.fromhex("9A03201122")
    assert load_dialect("iso87-binary").encode_field(55, "9A03201122") == bytes.fromhex("0005 9A03201122")


def test_short_values_are_filled_as_the_standard_says() -> None:
    dialect = load_dialect("iso87-ascii")
    assert dialect.encode_field(4, "150") == b"000000000150"
    assert dialect.encode_field(41, "T1") == b"T1      "


PADDED = {"left 0": "0411", "left F": "F411", "right 0": "4110", "right F": "411F"}


@pytest.mark.parametrize("pad", PADDED)
def test_an_odd_number_of_digits_is_padded_where_the_dialect_says(pad: str, tmp_path: Path) -> None:
    path = tmp_path / "pads.toml"
    path.write_text(f'base = "iso87-binary"\npad = "{pad}"\n', encoding="utf-8")
    dialect = load_dialect(str(path))
    assert dialect.encode_field(2, "411") == bytes.fromhex("03" + PADDED[pad])
    assert dialect.encode_field(22, "411") == bytes.fromhex(PADDED[pad])
    assert dialect.encode_field(35, "4=1") == bytes.fromhex("03" + PADDED[pad].replace("411", "4D1"))
    payload = dialect.encode("0200", {2: "411", 22: "411", 35: "4=1"})
    assert dialect.decode(payload).fields == {2: "411", 22: "411", 35: "4=1"}


@pytest.mark.parametrize("nibbles", ["0411", "F411", "411F"])
def test_a_senders_own_pad_nibble_is_understood_and_passes_as_it_came(nibbles: str) -> None:
    dialect = load_dialect("iso87-binary")
    payload = bytes.fromhex("0200 4000040000000000 03") + bytes.fromhex(nibbles) * 2
    message = dialect.decode(payload)
    assert message.fields == {2: "411", 22: "411"}
    assert dialect.assemble(message.mti, message.raw) == payload


def test_an_unused_nibble_that_is_no_pad_is_refused() -> None:
    with pytest.raises(MessageError, match="nibble") as caught:
        load_dialect("iso87-binary").decode(bytes.fromhex("0200 0000040000000000 5411"))
    assert (caught.value.field, caught.value.offset) == ("DE22", 10)


def test_a_secondary_bitmap_without_fields_passes_as_it_came() -> None:
    payload = b"0800822000000000000000000000000000001122123456000001"
    dialect = load_dialect("iso87-ascii")
    message = dialect.decode(payload)
    assert message.fields == {7: "1122123456", 11: "000001"}
    assert dialect.assemble(message.mti, message.raw) == payload


GARBAGE = {
    "an MTI of letters": (b"02X04000000000000000164111111111111111", "MTI", 0),
    "a bitmap with blanks": (b"0200400000000000 000164111111111111111", "bitmap", 4),
    "a letter in the PAN": (b"0200400000000000000016411111111111111X", "DE2", 20),
    "a signed length": (b"02004000000000000000+3411", "DE2", 20),
    "a length over the maximum": (b"0200400000000000000020" + PAN.encode() + b"1111", "DE2", 20),
    "a field cut short": (b"0200400000000000000016411111", "DE2", 22),
    "something after the last field": (b"02004000000000000000164111111111111111X", "DE2", 38),
    "a field the dialect lacks": (b"0200800000000000000080000000000000008000000000000000", "DE129", None),
    "a letter in a later amount": (b"0200500000000000000016411111111111111100000000X000", "DE4", 38),
    "a sign that is none": (b"02000000001000000000X00000000", "DE28", 20),
    "a track with letters": (b"0200000000002000000007411X=28", "DE35", 20),
    "nothing": (b"", "MTI", 0),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_is_refused_with_its_field_and_offset(what: str) -> None:
    payload, field, offset = GARBAGE[what]
    with pytest.raises(MessageError) as caught:
        load_dialect("iso87-ascii").decode(payload)
    assert (caught.value.field, caught.value.offset) == (field, offset)


@pytest.mark.parametrize("name", shipped_dialects())
def test_no_error_or_repr_shows_the_card_number(name: str) -> None:
    dialect = load_dialect(name)
    payload = dialect.encode(purchase_mti(dialect.version), sample(dialect.version))
    shown = [repr(dialect.decode(payload)), str(dialect.decode(payload))]
    for end in range(len(payload)):
        with pytest.raises(MessageError) as caught:
            dialect.decode(payload[:end])
        chain: BaseException | None = caught.value
        while chain is not None:
            shown.append(f"{chain!r} {chain} {vars(chain)}")
            chain = chain.__context__
    for value in (PAN + "X", PAN * 1300):
        for number in (2, 4, 35, 52, 55):
            with pytest.raises(MessageError) as caught:
                dialect.encode(purchase_mti(dialect.version), {number: value})
            shown.append(f"{caught.value!r} {caught.value.__context__!r}")
    assert not [text for text in shown if PAN in text or PAN[:8] in text]


def test_a_value_the_field_cannot_hold_is_refused_by_both_encoders() -> None:
    dialect = load_dialect("iso87-ascii")
    for number, value in ((2, "41x"), (3, "1234567"), (28, "12"), (52, "01"), (55, "ABC"), (48, "\u20ac"), (200, "1")):
        with pytest.raises(MessageError, match=f"DE{number}"):
            dialect.encode_field(number, value)
        with pytest.raises(MessageError, match=f"DE{number}"):
            dialect.encode("0200", {number: value})


def test_original_data_elements_of_1987_are_zero_filled() -> None:
    dialect = load_dialect("iso87-ascii")
    parts = {"mti": "0200", "stan": "77", "transmission": "1122123456", "acquirer_id": "123456"}
    value = dialect.join_subfields(90, parts)
    assert value == "0200" + "000077" + "1122123456" + "00000123456" + "00000000000"
    assert dialect.subfields(90, value)["acquirer_id"] == "00000123456"


def test_original_data_elements_of_1993_end_with_a_variable_acquirer() -> None:
    dialect = load_dialect("iso93-binary")
    parts = {"mti": "1200", "stan": "000077", "local_time": "261122123456", "acquirer_id": "123456"}
    value = dialect.join_subfields(56, parts)
    assert value == "1200" + "000077" + "261122123456" + "06" + "123456"
    assert dialect.subfields(56, value) == parts


@pytest.mark.parametrize(
    "value", ["1200", "1200000077261122123456", "120000007726112212345699", "1200000077261122123456001"]
)
def test_subfields_that_do_not_fill_their_field_are_refused(value: str) -> None:
    with pytest.raises(MessageError, match="DE56"):
        load_dialect("iso93-ascii").subfields(56, value)


WRONG_FILES = {
    "an unknown base": ('base = "iso88"', "iso88"),
    "a base of itself": ('base = "wrong.toml"', "bases"),
    "an unknown key": ('base = "iso87-ascii"\ncolour = "red"', "colour"),
    "an unknown type": ('base = "iso87-ascii"\n[fields]\n2 = { format = "q6" }', "q6"),
    "a length that does not fit": ('base = "iso87-ascii"\n[fields]\n2 = { format = "n..190" }', "DE2"),
    "an unknown encoding": ('base = "iso87-ascii"\n[fields]\n2 = { encoding = "utf-8" }', "utf-8"),
    "BCD for letters": ('base = "iso87-ascii"\n[fields]\n41 = { encoding = "bcd" }', "DE41"),
    "an unknown pad": ('base = "iso87-binary"\npad = "left X"', "left X"),
    "a field out of range": ('base = "iso87-ascii"\n[fields]\n193 = { format = "n1" }', "192"),
    "a field named by a word": ('base = "iso87-ascii"\n[fields]\npan = { format = "n1" }', "int"),
    "no TOML": ("base = ", "Invalid value"),
}


@pytest.mark.parametrize("what", WRONG_FILES)
def test_a_dialect_file_that_makes_no_sense_is_refused_with_the_reason(what: str, tmp_path: Path) -> None:
    text, reason = WRONG_FILES[what]
    path = tmp_path / "wrong.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=reason) as caught:
        load_dialect(str(path))
    assert str(path) in str(caught.value)


def test_a_missing_dialect_is_told_by_its_name() -> None:
    with pytest.raises(ValueError, match="iso99"):
        load_dialect("iso99")
