"""One data element of a dialect, compiled: how pyiso8583 reads it, what is added to that, and a fast way to write it.

pyiso8583 finds and decodes the field; `Field` checks its content and does what the library leaves: pad nibbles of BCD
with an odd number of digits, amounts with a sign, track data in nibbles.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from messages.iso8583.notation import CONTENT, Check, Notation

# text encodings by name: the codec for fields of printable characters and the one for any byte (ansb)
TEXT = {
    "ascii": ("ascii", "latin-1"),
    "latin-1": ("latin-1", "latin-1"),
    "cp500": ("cp500", "cp500"),
    "cp037": ("cp037", "cp037"),
}
ENCODINGS = (*TEXT, "bcd", "binary", "hex")
LENGTH_ENCODINGS = (*TEXT, "bcd", "binary")
PADS = ("left 0", "left F", "right 0", "right F")

_TRACK_TO_NIBBLE = str.maketrans(":;<=>?", "ABCDEF")  # the track's characters are 3/0 to 3/F: their low nibble is sent
_NIBBLE_TO_TRACK = str.maketrans("ABCDEF", ":;<=>?")
_EBCDIC_DIGITS = bytes(range(0xF0, 0xFA))


class FieldFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A data element as a dialect file gives it; what is empty comes from the dialect's encoding for the type."""

    format: str  # see Notation
    name: str = ""
    encoding: str = ""  # one of ENCODINGS; hex: a binary field as two characters a byte
    length_encoding: str = ""  # one of LENGTH_ENCODINGS
    length_unit: str = ""  # "bytes": the indicator of a BCD field counts bytes, not digits
    pad: str = ""  # one of PADS: where the unused nibble of odd BCD stands, and what it is
    sensitive: bool = False
    subfields: tuple[tuple[str, str], ...] = ()  # (name, format) in order


class _AnyNibble(str):
    """A pad nibble that equals any: pyiso8583 then strips whatever a sender pads with, and `Field` judges it."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __getitem__(self, key: object) -> "_AnyNibble":
        return self


class Field:
    """A compiled data element. Raises ValueError for a format that makes no sense."""

    def __init__(self, number: int, spec: FieldFormat) -> None:
        self.number = number
        self.spec = spec
        self.notation = notation = Notation.parse(spec.format)
        self._left, self._pad = spec.pad.startswith("left"), spec.pad[-1:]
        self._check_spec()
        self._codec = "" if spec.encoding in ("bcd", "binary") else self._text_codec()
        self.library = self._library_spec()
        self.check_length = self._length_check()
        self.check: Check | None = CONTENT[notation.type]
        self.finish = self._finisher()
        if spec.encoding == "binary":
            self.check = None  # pyiso8583 made the hex

    def encode(self, value: str) -> bytes:
        """The whole field with its length indicator. Raises ValueError without the value."""
        text = self.prepare(value)
        count = len(text)
        if self._codec:
            try:
                data = text.encode(self._codec)
            except UnicodeEncodeError:  # it holds the value: it may not become the context of another exception
                data = None
            if data is None:
                raise ValueError("a character that the encoding does not have")
        else:
            if count % 2:
                text = self._pad + text if self._left else text + self._pad
            data = bytes.fromhex(text)
            if self.library["len_count"] == "bytes":
                count = len(data)
        return self._length(count) + data if self.notation.indicator else data

    def encodes_like(self, other: "Field") -> bool:
        """Whether every encoded value of `other` is one of this field too."""
        return msgspec.structs.replace(self.spec, name="", sensitive=False, subfields=()) == msgspec.structs.replace(
            other.spec, name="", sensitive=False, subfields=()
        )

    def prepare(self, value: str) -> str:
        """The text that pyiso8583 encodes as this value. Raises ValueError without the value."""
        notation, encoding = self.notation, self.spec.encoding
        value = notation.fit(value)
        if encoding == "bcd":
            if notation.type == "x+n":
                return value[:1].encode().hex() + value[1:]
            if notation.type == "z":
                value = value.translate(_TRACK_TO_NIBBLE)
            if len(value) % 2 and (not notation.indicator or self.spec.length_unit == "bytes"):
                value = self._pad + value if self._left else value + self._pad
        return value

    def _check_spec(self) -> None:
        spec, kind, variable = self.spec, self.notation.type, bool(self.notation.indicator)
        encodings = ("binary", "hex") if kind == "b" else (*TEXT, "bcd") if kind in ("n", "z", "x+n") else tuple(TEXT)
        for what, value, choices, matters in (
            ("encoding", spec.encoding, encodings, True),
            ("length encoding", spec.length_encoding, LENGTH_ENCODINGS, variable),
            ("length unit", spec.length_unit, ("", "bytes"), True),
            ("pad", spec.pad, PADS, spec.encoding == "bcd"),
        ):
            if matters and value not in choices:
                raise ValueError(f"DE{self.number} of type {kind}: {what} {value!r} is not one of {', '.join(choices)}")
        if variable and kind == "x+n":
            raise ValueError(f"DE{self.number}: x+n is of fixed length")
        largest = 256 ** self._binary_width() if spec.length_encoding == "binary" else 10**self.notation.indicator
        parts = [Notation.parse(form) for _, form in spec.subfields]
        if any(part.indicator and part.length >= 10**part.indicator for part in parts):
            raise ValueError(f"DE{self.number}: the length of a subfield does not fit into its indicator")
        if variable and self.notation.length >= largest:
            raise ValueError(f"DE{self.number}: the length {self.notation.length} does not fit into its indicator")

    def _binary_width(self) -> int:
        return 1 if self.notation.indicator < 3 else 2

    def _text_codec(self) -> str:
        if self.spec.encoding == "hex":
            return "ascii"
        return TEXT[self.spec.encoding][self.notation.type == "ansb"]

    def _library_spec(self) -> dict[str, Any]:
        spec, notation = self.spec, self.notation
        length, unit = notation.length, "bytes"
        if spec.encoding == "bcd":
            if notation.type == "x+n":
                length = 1 + length // 2
            elif notation.indicator and spec.length_unit != "bytes":
                unit = "nibbles"
            else:
                length = (length + 1) // 2
        elif spec.encoding == "hex":
            length *= 2
        packed = (notation.indicator + 1) // 2
        widths = {"bcd": packed, "binary": self._binary_width()}
        names = {"bcd": "bcd", "binary": "b"}
        result = {
            "data_enc": self._codec or "b",
            "len_enc": names.get(spec.length_encoding) or TEXT.get(spec.length_encoding, ("ascii",))[0],
            "len_type": widths.get(spec.length_encoding, notation.indicator) if notation.indicator else 0,
            "len_count": unit,
            "max_len": length,
            "desc": spec.name,
        }
        if unit == "nibbles":
            result["left_pad" if self._left else "right_pad"] = _AnyNibble(self._pad)
        return result

    def _length(self, count: int) -> bytes:
        width: int = self.library["len_type"]
        if self.spec.length_encoding == "binary":
            return count.to_bytes(width, "big")
        if self.spec.length_encoding == "bcd":
            return bytes.fromhex(f"{count:0{2 * width}d}")
        return f"{count:0{width}d}".encode(self.library["len_enc"])

    def _length_check(self) -> Callable[[bytes], object] | None:
        """pyiso8583 reads text lengths with int(), which also takes "+5" and " 5"."""
        if not self.notation.indicator or self.spec.length_encoding in ("bcd", "binary"):
            return None
        if self.spec.length_encoding.startswith("cp"):
            return lambda indicator: not indicator.strip(_EBCDIC_DIGITS)
        return bytes.isdigit

    def _finisher(self) -> Callable[[str, bytes], str] | None:
        """What turns pyiso8583's text (and the field's bytes) into the value, where they differ."""
        spec, notation = self.spec, self.notation
        if spec.encoding == "hex":
            return lambda text, data: text.upper()
        if spec.encoding != "bcd":
            return None
        if notation.type == "x+n":
            return lambda text, data: chr(data[0]) + text[2:]
        if not notation.indicator:
            strip = self._strip_fixed() if notation.length % 2 else None
        elif spec.length_unit == "bytes":
            strip = self._strip_filler
        else:
            strip = self._strip_odd
        if notation.type != "z":
            return strip
        if strip is None:
            return lambda text, data: text.translate(_NIBBLE_TO_TRACK)
        return lambda text, data: strip(text, data).translate(_NIBBLE_TO_TRACK)

    def _strip_fixed(self) -> Callable[[str, bytes], str]:
        strip = self._strip
        if self._left:
            return lambda text, data: text[1:] if text[0] == "0" else strip(text, data)
        return lambda text, data: text[:-1] if text[-1] == self._pad else strip(text, data)

    def _strip(self, text: str, data: bytes) -> str:
        """Take the pad nibble from `text`: 0 or F at the dialect's end, or F at the other one."""
        pad, rest = (text[0], text[1:]) if self._left else (text[-1], text[:-1])
        if pad in "0F":
            return rest
        pad, rest = (text[-1], text[:-1]) if self._left else (text[0], text[1:])
        if pad != "F":
            raise ValueError("the unused nibble of an odd number of digits is neither 0 nor F")
        return rest

    def _strip_odd(self, text: str, data: bytes) -> str:
        return text if len(text) == 2 * len(data) else self._strip(data.hex().upper(), data)

    def _strip_filler(self, text: str, data: bytes) -> str:
        """Without a count of digits only an F can be known as filler."""
        return text.removeprefix(self._pad) if self._left and self._pad == "F" else text.removesuffix("F")
