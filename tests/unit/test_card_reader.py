"""The outside world's own reading of ISO 8583 agrees with the dialects' decoder, and refuses what is cut off."""

import pytest

from messages.iso8583 import load_dialect
from tools.card_reader import CardError, CardReader

FIELDS = {
    2: "4100001200000005",
    3: "010000",
    4: "000000002500",
    7: "1122123456",
    11: "000042",
    22: "051",
    32: "00000123456",
    35: "4100001200000005=30121234567890123456",
    37: "123456789012",
    41: "T0000001",
    49: "978",
    52: "0123456789ABCDEF",
    55: "9F2608A1B2C3D4E5F60718",
    90: "020000004211221234560000012345600000000000",
}
DIALECTS = ("iso87-ascii", "iso87-binary", "iso87-ebcdic")


@pytest.mark.parametrize("name", DIALECTS)
def test_it_reads_what_the_dialect_wrote(name: str) -> None:
    dialect = load_dialect(name)
    payload = dialect.encode("0200", FIELDS)
    message = CardReader(dialect).read(payload)
    decoded = dialect.decode(payload)
    assert message.mti == decoded.mti
    assert message.raw == decoded.raw
    for number in (2, 3, 4, 7, 11, 22, 32, 37, 41, 49, 90):
        assert message.text(number) == decoded.fields[number], f"DE{number}"
    assert message.number(4) == 2500
    assert message.number(5) is None
    assert message.text(5) == ""


@pytest.mark.parametrize("name", DIALECTS)
def test_it_refuses_every_message_that_is_cut_off_or_too_long(name: str) -> None:
    dialect = load_dialect(name)
    reader = CardReader(dialect)
    payload = dialect.encode("0200", FIELDS)
    for length in range(len(payload)):
        with pytest.raises(CardError):
            reader.read(payload[:length])
    with pytest.raises(CardError):
        reader.read(payload + b"\x00")


def test_it_refuses_an_amount_that_is_no_number() -> None:
    dialect = load_dialect("iso87-binary")
    raw = {4: bytes.fromhex("00000000A500")}
    with pytest.raises(CardError):
        CardReader(dialect).read(dialect.assemble("0200", raw)).number(4)
