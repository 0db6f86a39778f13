"""What is recorded of a request and of a decision: encoded fields without cardholder authentication data, as msgpack.

Records carry the name of their dialect, so that a link of another dialect can read them.
"""

import re
from typing import Annotated

import msgspec

from messages.iso8583.bertlv import without_cardholder_data
from messages.iso8583.dialect import Iso8583
from messages.iso8583.loader import load_dialect
from messages.message import MessageError

CHIP_DATA = 55
# where a track has the PAN, of 19 digits at the most. Tracks 1 and 2: ISO/IEC 7813 (1: format code, PAN, "^"); 3: ISO/IEC
# 4909 (format code of two digits, PAN, separator)
_TRACKS = {
    35: re.compile("([0-9]{1,19})(?![0-9])"),
    45: re.compile("%?[A-Za-z]{1,2}([0-9]{1,19})\\^"),
    36: re.compile("[0-9]{2}([0-9]{1,19})[=D]"),
}


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request (`original`) or the fields of an answer (`Outcome.content`). Its repr holds no field."""

    dialect: str
    mti: Annotated[str, msgspec.Meta(pattern="^[0-9]{4}$", max_length=4)]
    raw: dict[Annotated[int, msgspec.Meta(ge=1, le=192)], bytes]
    pan: str = ""  # of a request that has it in its track only: for a reversal

    def __repr__(self) -> str:
        return f"Record({self.dialect} {self.mti})"

    def message(self) -> Iso8583:
        """Its fields decoded in its own dialect. Raises MessageError, also when that dialect is no longer to be had."""
        try:
            dialect = load_dialect(self.dialect)
        except ValueError as error:
            raise MessageError(str(error)) from None
        return dialect.decode(dialect.assemble(self.mti, self.raw))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def pack(record: Record) -> bytes:
    return _encoder.encode(record)


def unpack(data: bytes) -> Record:
    """Raises MessageError for what is no record."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # msgspec lets the latter two through
        raise MessageError("not a record of an ISO 8583 message") from None


def account(fields: dict[int, str]) -> str:
    """The PAN: DE2, else of track 2, 1 or 3 (DE35, 45, 36); "" where none of them has one."""
    pan = fields.get(2)
    if pan is not None:
        return pan
    for number, track in _TRACKS.items():
        if number in fields and (found := track.match(fields[number])):
            return found[1]
    return ""


def request_record(body: Iso8583) -> Record:
    """A request without its sensitive fields."""
    sensitive = body.dialect.sensitive
    raw = {number: part for number, part in body.raw.items() if number not in sensitive}
    return Record(body.dialect.name, body.mti, raw, "" if 2 in raw else account(body.fields))


def answer_record(body: Iso8583) -> Record:
    """An answer without its sensitive fields. Its chip data are the issuer's (ARPC, scripts) and stay, but for what
    belongs to the cardholder; chip data that cannot be parsed are left out, since nobody can tell what is in them.
    """
    return Record(body.dialect.name, body.mti, raw_without_secrets(body))


def raw_without_secrets(body: Iso8583) -> dict[int, bytes]:
    """The encoded fields of such a record."""
    return _kept(body)[0]


def advice_body(body: Iso8583) -> Iso8583:
    """An advice as it is kept until it is delivered: without track, PIN block and MAC, and with the PAN in DE2.

    What it tells is decided, so nobody needs them any more. Of its chip data as much stays as of an answer's.
    """
    raw, chip = _kept(body)
    fields = {number: value for number, value in body.fields.items() if number in raw}
    if chip is not None:
        fields[CHIP_DATA] = chip
    pan = account(body.fields)
    if pan and 2 not in raw and 2 in body.dialect.fields:
        fields[2] = pan
        raw[2] = body.dialect.encode_field(2, pan)
    return Iso8583(body.mti, fields, raw, body.dialect)


def _kept(body: Iso8583) -> tuple[dict[int, bytes], str | None]:
    """The encoded fields that are kept, and what is kept of the chip data."""
    sensitive = body.dialect.sensitive
    raw = {number: part for number, part in body.raw.items() if number not in sensitive}
    chip = body.fields.get(CHIP_DATA)
    kept = None if chip is None else _issuer_chip_data(chip)
    if kept is not None:
        raw[CHIP_DATA] = body.raw[CHIP_DATA] if kept == chip else body.dialect.encode_field(CHIP_DATA, kept)
    return raw, kept


def _issuer_chip_data(chip: str) -> str | None:
    """Hex in and out; None for what is no BER-TLV."""
    try:
        return without_cardholder_data(bytes.fromhex(chip)).hex().upper()
    except ValueError:
        return None
