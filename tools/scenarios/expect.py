"""Whether a message is what a step expects. What is found to differ is told without card data."""

import re
from collections.abc import Iterable, Mapping, Sequence

from tools.scenarios.script import Options
from tools.scenarios.speech import Told

SECRET = frozenset(("2", "35", "36", "45", "52", "53", "55", "64", "96", "128"))
_REFERENCE = re.compile(r"(not )?([a-z]\w*)\.(\w+)")
_HOLE = re.compile(r"\{([a-z]\w*)\.(\w+)\}")


def masked(name: str, value: str) -> str:
    """A field's value as it may be shown: of the PAN its ends, of secrets their length."""
    if name == "2" and len(value) >= 12:
        return f"{value[:6]}{'*' * (len(value) - 10)}{value[-4:]}"
    return f"<{len(value)} hidden>" if name in SECRET else value


def resolved(pattern: str, named: Mapping[str, Told]) -> str:
    """A value of `with` or `fields`, with what it takes from an earlier message put in."""
    match = _REFERENCE.fullmatch(pattern)
    if match is None or match[2] not in named:
        return pattern
    return named[match[2]].fields.get(match[3], "")


def differences(told: Told, mti: str, wanted: Options, named: Mapping[str, Told]) -> list[str]:
    """What of the message is not as the step says; nothing when it fits."""
    found = []
    if mti not in ("anything", told.mti) and not told.mti.startswith(f"{mti}."):
        found.append(f"a {mti} is expected, a {told.mti} came")
    for name, pattern in wanted.fields.items():
        text = _unlike(name, pattern, told.fields.get(name), named)
        if text:
            found.append(text)
    there = set(told.numbers)
    found += [f"DE{number} must be absent" for number in wanted.absent if number in there]
    if wanted.only and there != set(wanted.only):
        more, less = sorted(there - set(wanted.only)), sorted(set(wanted.only) - there)
        found.append(f"other fields than expected: {more} too many, {less} missing")
    if wanted.header and told.header != bytes.fromhex(wanted.header):
        found.append(f"header: expected {wanted.header}, got {told.header.hex()}")
    if wanted.same_bytes and told.payload != named[wanted.same_bytes].payload:
        found.append(_first_difference(named[wanted.same_bytes].payload, told.payload))
    if wanted.wire and not _wire(wanted.wire, named).fullmatch(told.payload):
        found.append(_wire_difference(wanted.wire, named, told.payload))
    return found


def rows_differ(
    rows: Sequence[Mapping[str, str]], wanted: Iterable[Mapping[str, str | int]], named: Mapping[str, Told]
) -> list[str]:
    """What is wrong with these rows, in whatever order they are: each that is wanted has one of its own, and none is left."""
    found, left = [], list(rows)
    for want in wanted:
        fits = (row for row in left if not any(_unlike(name, str(v), row.get(name), named) for name, v in want.items()))
        row = next(fits, None)
        if row is None:
            found.append(f"there is no row {want}")
        else:
            left.remove(row)
    return found + [f"no row is expected to be { ({name: v for name, v in row.items() if v}) }" for row in left]


def _unlike(name: str, pattern: str, value: str | None, named: Mapping[str, Told]) -> str:
    label = f"DE{name}" if name[:1].isdecimal() else name
    if value is None:
        return f"{label}: expected {masked(name, pattern)}, and it is absent"
    if pattern == "*":
        return ""
    match = _REFERENCE.fullmatch(pattern)
    if match and match[2] in named:
        other = named[match[2]].fields.get(match[3])
        if (value == other) == bool(match[1]):
            return f"{label}: expected {pattern} ({masked(name, other or 'absent')}), got {masked(name, value)}"
        return ""
    if pattern.startswith("/"):
        fits = re.fullmatch(pattern.strip("/"), value) is not None
    else:
        fits = value.rstrip() == pattern.rstrip()  # fixed fields are filled with blanks
    return "" if fits else f"{label}: expected {masked(name, pattern)}, got {masked(name, value)}"


def _holes(wire: str, named: Mapping[str, Told]) -> str:
    """Without blanks and comments. `{r1.11}` stands for a field of an earlier message as it is encoded there."""
    digits = "".join("".join(line.partition("#")[0].split()) for line in wire.splitlines())
    return _HOLE.sub(lambda match: named[match[1]].raw[int(match[2])].hex(), digits)


def _wire(wire: str, named: Mapping[str, Told]) -> re.Pattern[bytes]:
    """`??` stands for any byte."""
    digits = _holes(wire, named)
    pairs = [digits[at : at + 2] for at in range(0, len(digits), 2)]
    return re.compile(b"".join(b"." if pair == "??" else re.escape(bytes.fromhex(pair)) for pair in pairs), re.DOTALL)


def _wire_difference(wire: str, named: Mapping[str, Told], payload: bytes) -> str:
    digits = _holes(wire, named)
    for at in range(min(len(digits) // 2, len(payload))):
        pair = digits[2 * at : 2 * at + 2]
        if pair != "??" and int(pair, 16) != payload[at]:
            return f"wire: byte {at} is {payload[at]:02x}, expected {pair}"
    return f"wire: {len(payload)} bytes, expected {len(digits) // 2}"


def _first_difference(expected: bytes, got: bytes) -> str:
    at = next((at for at, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        return f"bytes: {len(got)}, expected {len(expected)}"
    return f"bytes: the first that differs is number {at}"
