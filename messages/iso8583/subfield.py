"""Fields within a field's value: fixed ones one after the other, and variable ones with a decimal length before them.

DE90 of 1987 (original data elements: MTI n4, STAN n6, DE7 n10, DE32 n11, DE33 n11) and DE56 of 1993 (MTI n4, STAN n6,
DE12 n12, DE32 n..11) are such; the dialect files give their tables.
"""

from collections.abc import Mapping

from messages.iso8583.notation import CONTENT, Notation

Table = tuple[tuple[str, str], ...]  # (name, format) in order


def split(table: Table, value: str) -> dict[str, str]:
    """Subfields by name. Raises ValueError (without the value) when they do not fill the value exactly."""
    result: dict[str, str] = {}
    at = 0
    for name, form in table:
        notation = Notation.parse(form)
        length = notation.length
        if notation.indicator:
            digits = value[at : at + notation.indicator]
            if len(digits) < notation.indicator or not digits.isdecimal() or int(digits) > length:
                raise ValueError(f"subfield {name} has a length that cannot be")
            at += notation.indicator
            length = int(digits)
        part = value[at : at + length]
        check = CONTENT[notation.type]
        if len(part) < length or (part and check is not None and not check(part)):
            raise ValueError(f"subfield {name} is short or not of type {notation.type}")
        result[name] = part
        at += length
    if at != len(value):
        raise ValueError("characters after the last subfield" if table else "the field has no subfields")
    return result


def join(table: Table, values: Mapping[str, str]) -> str:
    """The value made of these subfields. Raises ValueError (without values) for one that does not fit its format."""
    unknown = values.keys() - {name for name, _ in table}
    if unknown:
        raise ValueError(f"no such subfield: {', '.join(sorted(unknown))}")
    parts = []
    for name, form in table:
        notation = Notation.parse(form)
        try:
            part = notation.fit(values.get(name, ""))
        except ValueError as error:
            raise ValueError(f"subfield {name}: {error}") from None
        parts.append(f"{len(part):0{notation.indicator}d}{part}" if notation.indicator else part)
    return "".join(parts)
