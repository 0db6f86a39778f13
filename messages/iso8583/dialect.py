"""A dialect of ISO 8583: decodes a payload into values and raw fields, and puts payloads together from either.

Decoding is pyiso8583's; `Field` adds what the library leaves. Raw fields (with their length indicators) are kept, so
that what nobody touches goes out byte for byte as it came.
"""

from collections.abc import Mapping
from typing import Any

import iso8583
import msgspec

from messages.iso8583.field import TEXT, Field, FieldFormat
from messages.iso8583.subfield import join, split
from messages.message import MessageError

# Cardholder authentication and key data: never recorded, whatever a dialect says. 35, 36, 45 tracks; 52 PIN block;
# 53 security control; 55 chip data; 64, 128 MAC; 96 message security code or key management.
SENSITIVE = frozenset((35, 36, 45, 52, 53, 55, 64, 96, 128))

_BITS = tuple(1 << (192 - number) if number else 0 for number in range(193))
_LIBRARY_NAMES = {"h": "header", "t": "MTI", "p": "bitmap", "1": "bitmap"}


class Iso8583(msgspec.Struct, frozen=True, gc=False):
    """One decoded message."""

    mti: str
    fields: dict[int, str]  # values as text; binary fields as upper-case hex
    raw: dict[int, bytes]  # encoded fields with their length indicators; 1 and 65: an extension bitmap without fields
    dialect: "Dialect"

    def __repr__(self) -> str:
        return f"Iso8583({self.mti}, {', '.join(f'DE{number}' for number in self.fields)})"


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dialect as its file gives it, with everything filled in."""

    version: str  # "1987", "1993" or "2003"
    mti: str  # a text encoding or "bcd"
    bitmap: str  # "binary", or a text encoding: as 16 hex digits
    fields: dict[int, FieldFormat]


class Dialect:
    """A compiled dialect. Two of the same `name` are the same. Raises ValueError for a layout that makes no sense."""

    def __init__(self, name: str, layout: Layout) -> None:
        self.name = name
        self.layout = layout
        self.version = layout.version
        for encoding, other, what in ((layout.mti, "bcd", "MTI"), (layout.bitmap, "binary", "bitmap")):
            if encoding not in (*TEXT, other):
                raise ValueError(f"unknown {what} encoding {encoding!r}: one of {', '.join((*TEXT, other))}")
        if not all(2 <= number <= 192 and number != 65 for number in layout.fields):
            raise ValueError("a field is not in 2 to 192, or is 65, the third bitmap's mark")
        self.fields = {number: Field(number, spec) for number, spec in sorted(layout.fields.items())}
        self.sensitive = SENSITIVE | {number for number, field in self.fields.items() if field.spec.sensitive}
        self._mti_codec = None if layout.mti == "bcd" else TEXT[layout.mti][0]
        self._bitmap_codec = None if layout.bitmap == "binary" else TEXT[layout.bitmap][0]
        self.mti_length = 2 if self._mti_codec is None else 4  # bytes
        self._spec = self._library_spec()
        self._rows = {
            str(number): (number, field.check_length, field.finish, field.check)
            for number, field in self.fields.items()
        }

    def __repr__(self) -> str:
        return f"Dialect({self.name})"

    def decode(self, payload: bytes) -> Iso8583:
        """Decode and check one message. Raises MessageError, with field and offset and without content."""
        failure = None
        try:
            values, parts = iso8583.decode(payload, self._spec)
        except iso8583.DecodeError as error:
            failure = MessageError(_reason(error.msg), _field_name(error.field), error.pos)
        except KeyError as error:
            failure = MessageError("the dialect has no such field", _field_name(str(error.args[0])))
        if failure is not None:
            raise failure  # outside of the handler: the library's error holds the message and must not be its context
        mti = values["t"]
        if not mti.isdecimal():
            raise MessageError("not four digits", "MTI", 0)
        if (
            not values["p"].isalnum() or not values.get("1", "0").isalnum()
        ):  # the library skips blanks between hex digits
            raise MessageError("not hex digits", "bitmap", len(parts["t"]["data"]))
        fields: dict[int, str] = {}
        raw: dict[int, bytes] = {}
        rows = self._rows
        for key, value in values.items():
            row = rows.get(key)
            if row is None:  # t, p and 1
                continue
            number, check_length, finish, check = row
            part = parts[key]
            indicator = part["len"]
            data = part["data"]
            if check_length is not None and not check_length(indicator):
                raise self._invalid("length is not decimal digits", key, parts)
            if finish is not None and data:
                try:
                    value = finish(value, data)
                except ValueError as error:
                    raise self._invalid(str(error), key, parts) from None
            if check is not None and value and not check(value):
                raise self._invalid("content is not of its type", key, parts)
            fields[number] = value
            raw[number] = indicator + data
        if "1" in values:
            self._keep_empty_bitmaps(values["1"], raw)
        return Iso8583(mti, fields, raw, self)

    def encode(self, mti: str, fields: Mapping[int, str]) -> bytes:
        """Encode a message from values; binary fields as hex. Short n and character fields are filled up.

        Raises MessageError for a field the dialect does not have, or a value it cannot hold.
        """
        document = {"t": self._checked_mti(mti)}
        for number, value in fields.items():
            try:
                document[str(number)] = self._field(number).prepare(value)
            except ValueError as error:
                raise MessageError(str(error), f"DE{number}") from None
        failure = None
        try:
            payload, _ = iso8583.encode(document, self._spec)
        except iso8583.EncodeError as error:
            failure = MessageError(_reason(error.msg), _field_name(error.field))
        if failure is not None:
            raise failure  # as in decode
        return bytes(payload)

    def encode_field(self, number: int, value: str) -> bytes:
        """One field as it stands in a message, its length indicator included. Raises MessageError."""
        field = self._field(number)
        try:
            return field.encode(value)
        except ValueError as error:
            raise MessageError(str(error), f"DE{number}") from None

    def assemble(self, mti: str, raw: Mapping[int, bytes]) -> bytes:
        """MTI, bitmap and encoded fields in order; nothing is checked. Raises MessageError for an MTI that is none."""
        order = sorted(raw)
        bits = 0
        for number in order:
            bits |= _BITS[number]
        highest = order[-1] if order else 0
        size = 8
        if highest > 64 or 1 in raw:
            bits |= _BITS[1]
            size = 16
        if highest > 128 or 65 in raw:
            bits |= _BITS[65] | _BITS[1]
            size = 24
        bitmap = (bits >> (192 - 8 * size)).to_bytes(size, "big")
        if self._bitmap_codec is not None:
            bitmap = bitmap.hex().upper().encode(self._bitmap_codec)
        return self.encode_mti(mti) + bitmap + b"".join([raw[number] for number in order])

    def encode_mti(self, mti: str) -> bytes:
        """The MTI's bytes. Raises MessageError when it is not four digits."""
        text = self._checked_mti(mti)
        return bytes.fromhex(text) if self._mti_codec is None else text.encode(self._mti_codec)

    def subfields(self, number: int, value: str) -> dict[str, str]:
        """The subfields of a field's value, by name. Raises MessageError when they do not fit."""
        try:
            return split(self._field(number).spec.subfields, value)
        except ValueError as error:
            raise MessageError(str(error), f"DE{number}") from None

    def join_subfields(self, number: int, values: Mapping[str, str]) -> str:
        """The value of a field with these subfields; absent ones are filled (n: zeros). Raises MessageError."""
        try:
            return join(self._field(number).spec.subfields, values)
        except ValueError as error:
            raise MessageError(str(error), f"DE{number}") from None

    def _field(self, number: int) -> Field:
        field = self.fields.get(number)
        if field is None:
            raise MessageError("the dialect has no such field", f"DE{number}")
        return field

    @staticmethod
    def _checked_mti(mti: str) -> str:
        if len(mti) != 4 or not (mti.isdecimal() and mti.isascii()):
            raise MessageError("not four digits", "MTI")
        return mti

    @staticmethod
    def _keep_empty_bitmaps(extension: str, raw: dict[int, bytes]) -> None:
        highest = max(raw, default=0)
        if len(extension) == 32 and highest <= 128:
            raw[65] = b""
        elif highest <= 64:
            raw[1] = b""

    @staticmethod
    def _invalid(reason: str, key: str, parts: dict[str, dict[str, bytes]]) -> MessageError:
        offset = 0
        for name, part in parts.items():
            if name == key:
                break
            offset += len(part["len"]) + len(part["data"])
        return MessageError(reason, f"DE{key}", offset)

    def _library_spec(self) -> dict[str, dict[str, Any]]:
        fixed = {"len_enc": "ascii", "len_type": 0}
        bitmap = {**fixed, "data_enc": self._bitmap_codec or "b", "max_len": 16 if self._bitmap_codec else 8}
        return {
            "h": {**fixed, "data_enc": "ascii", "max_len": 0},
            "t": {**fixed, "data_enc": self._mti_codec or "b", "max_len": 4 if self._mti_codec else 2},
            "p": bitmap,
            "1": bitmap,
            **{str(number): field.library for number, field in self.fields.items()},
        }


def _field_name(key: str) -> str:
    return _LIBRARY_NAMES.get(key) or f"DE{key}"


def _reason(text: str) -> str:
    """pyiso8583's reason without the lengths in it, which it read from the message."""
    if "larger than maximum" in text:
        return "longer than its maximum"
    if "expecting" in text:
        return "the message ends inside it"
    return text
