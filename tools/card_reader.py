"""Reads ISO 8583 messages for simulators and auditor: cuts all fields, decodes only those that are asked for.

An independent reading: of the switch only the table of the dialect is used, not its decoder. It is also several times
cheaper than a full decode, so that the outside world leaves the processors to the switch.
"""

from collections.abc import Callable
from typing import NamedTuple

from messages.iso8583 import Dialect

_HIGHEST_FIELD = 128


class CardError(Exception):
    """Bytes that are no message of the dialect. Holds no content."""


class Row(NamedTuple):
    """How one field is cut and decoded."""

    number: int
    fixed: int  # bytes; -1 when a length stands before them
    indicator: int  # bytes of that length
    read_length: Callable[[bytes], int]
    packed: bool  # the length counts digits, two a byte
    codec: str  # "" for packed digits and binary
    digits: int  # of fixed packed fields; 0: all
    pad_left: bool


class CardMessage:
    """A message cut into fields. `raw` keeps each with its length indicator."""

    def __init__(self, mti: str, raw: dict[int, bytes], rows: dict[int, Row]) -> None:
        self.mti = mti
        self.raw = raw
        self._rows = rows

    def text(self, number: int) -> str:
        """The value of a field; empty when absent. Raises CardError when it holds bytes that its encoding has not."""
        raw = self.raw.get(number)
        if raw is None:
            return ""
        row = self._rows[number]
        data = raw[row.indicator :]
        try:
            if row.codec:
                return data.decode(row.codec)
        except UnicodeDecodeError:
            raise CardError(f"DE{number} has bytes outside of its encoding") from None
        digits = data.hex().upper()
        count = row.digits if row.fixed >= 0 else row.read_length(raw[: row.indicator]) if row.packed else 0
        if not count:
            return digits
        return digits[-count:] if row.pad_left else digits[:count]

    @property
    def track2(self) -> str:
        """DE35 with "=" as separator, which packed digits have as "D"."""
        return self.text(35).replace("D", "=")

    @property
    def pan(self) -> str:
        """DE2, else what track 2 says."""
        return self.text(2) or self.track2.partition("=")[0]

    def number(self, number: int) -> int | None:
        """The value of a numeric field; None when absent. Raises CardError."""
        text = self.text(number)
        if text and not text.isdecimal():
            raise CardError(f"DE{number} is not numeric")
        return int(text) if text else None


class CardReader:
    """Cuts the messages of one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        mti = dialect.encode_mti("0200")
        self._mti_bytes = len(mti)
        self._mti_codec = "" if len(mti) == 2 else "ascii" if mti == b"0200" else "cp500"
        bitmap = dialect.assemble("0200", {3: b""})[len(mti) :]
        self._bitmap_codec = "" if len(bitmap) == 8 else "ascii" if bitmap.isalnum() else "cp500"
        self._rows = {number: _row(dialect, number) for number in dialect.fields if number <= _HIGHEST_FIELD}
        self._plans: dict[bytes, list[Row]] = {}

    def read(self, payload: bytes) -> CardMessage:
        """Cut one message. Raises CardError."""
        mti = payload[: self._mti_bytes]
        text = mti.decode(self._mti_codec, "replace") if self._mti_codec else mti.hex()
        if len(text) != 4 or not text.isdecimal():
            raise CardError("the MTI is not four digits")
        unit = 16 if self._bitmap_codec else 8
        at = self._mti_bytes + unit
        bitmap = payload[self._mti_bytes : at]
        if self._bits(bitmap[:2] if self._bitmap_codec else bitmap[:1])[:1] == "1":
            at += unit
            bitmap = payload[self._mti_bytes : at]
        plan = self._plans.get(bitmap)
        if plan is None:
            plan = self._plans[bitmap] = self._plan(bitmap)
        raw = {}
        for row in plan:
            if row.fixed >= 0:
                end = at + row.fixed
            else:
                start = at + row.indicator
                try:
                    count = row.read_length(payload[at:start])
                except ValueError:
                    raise CardError(f"DE{row.number} has no length at byte {at}") from None
                end = start + ((count + 1) // 2 if row.packed else count)
            raw[row.number] = payload[at:end]
            at = end
        if at != len(payload):
            raise CardError(f"the fields of the bitmap take {at} bytes, the message has {len(payload)}")
        return CardMessage(text, raw, self._rows)

    def _bits(self, bitmap: bytes) -> str:
        try:
            digits = bitmap.decode(self._bitmap_codec) if self._bitmap_codec else bitmap.hex()
            return f"{int(digits, 16):0{4 * len(digits)}b}"
        except ValueError:
            raise CardError("the bitmap is not hexadecimal, or missing") from None

    def _plan(self, bitmap: bytes) -> list[Row]:
        numbers = [place for place, bit in enumerate(self._bits(bitmap), 1) if bit == "1" and place > 1]
        for number in numbers:
            if number not in self._rows:
                raise CardError(f"the dialect has no DE{number}")
        return [self._rows[number] for number in numbers]


def _row(dialect: Dialect, number: int) -> Row:
    field = dialect.fields[number]
    layout, notation = field.library, field.notation
    packed_digits = field.spec.encoding == "bcd" and notation.type != "x+n"
    length_codec = layout["len_enc"]
    readers: dict[str, Callable[[bytes], int]] = {
        "bcd": lambda prefix: int(prefix.hex()),
        "b": lambda prefix: int.from_bytes(prefix, "big"),
    }
    return Row(
        number,
        -1 if notation.indicator else layout["max_len"],
        layout["len_type"],
        readers.get(length_codec, lambda prefix: int(prefix.decode(length_codec))),
        layout["len_count"] == "nibbles",
        "" if layout["data_enc"] == "b" else layout["data_enc"],
        notation.length if packed_digits and not notation.indicator else 0,
        field.spec.pad.startswith("left"),
    )
