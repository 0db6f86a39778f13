"""The notation of ISO 8583 for a data element ("n6", "an..25", "ans...999", "x+n8", "b8") and what content it allows.

ISO 8583:1987 clause 4.3 and 1993 clause 4.4: attribute, then the fixed length, or as many dots as the length indicator
has digits and the maximum length. Lengths of type b are in bytes here; x+n8 is a sign, C or D, and 8 digits.
"""

import re
from collections.abc import Callable

import msgspec

Check = Callable[[str], object]

_FORMAT = re.compile(r"(x\+n|[a-z]+)(\.{0,4})([1-9][0-9]{0,3})")


def _only(characters: str) -> Check:
    return re.compile(f"[{characters}]*").fullmatch


CONTENT: dict[str, Check | None] = {
    "n": str.isdecimal,
    "a": _only("A-Za-z "),
    "an": _only("0-9A-Za-z "),
    "ns": str.isprintable,
    "as": str.isprintable,
    "ans": str.isprintable,
    "ansb": None,  # national and private use: any byte, told as one character each
    "z": _only("0-9:;<=>?D"),  # tracks 2 and 3, ISO/IEC 7811; some write the separator = as D
    "x+n": re.compile("[CD][0-9]+").fullmatch,
    "b": _only("0-9A-F"),  # written as hex
}


class Notation(msgspec.Struct, frozen=True):
    """One format, parsed."""

    type: str
    length: int  # characters, or bytes for b; for x+n the sign is counted; the maximum when variable
    indicator: int  # digits of the length indicator; 0 when fixed

    @classmethod
    def parse(cls, text: str) -> "Notation":
        """Raises ValueError for what is no format."""
        match = _FORMAT.fullmatch(text)
        if match is None or match[1] not in CONTENT:
            raise ValueError(f'format {text!r} is not like "n6", "an..25" or "b8" with a type of {", ".join(CONTENT)}')
        length = int(match[3]) + (match[1] == "x+n")
        return cls(match[1], length, len(match[2]))

    def fit(self, value: str) -> str:
        """`value` filled up to a fixed length: n with zeros on the left, characters with blanks on the right.

        Raises ValueError (without the value) when content or length is not allowed.
        """
        check = CONTENT[self.type]
        if value and check is not None and not check(value):
            raise ValueError(f"content is not of type {self.type}")
        length = self.length * 2 if self.type == "b" else self.length
        if len(value) > length:
            raise ValueError(f"longer than {self.length}")
        if self.type == "b" and len(value) % 2:
            raise ValueError("an odd number of hex digits")
        if self.indicator or len(value) == length:
            return value
        if self.type == "n":
            return value.zfill(length)
        if self.type in ("b", "x+n", "z"):
            raise ValueError(f"shorter than {self.length}")
        return value.ljust(length)
