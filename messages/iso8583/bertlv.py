"""BER-TLV as EMV uses it in DE55 (EMV Book 3 annex B; ISO/IEC 8825-1): parse, build, take out the cardholder's data.

Tags are upper-case hex text ("9F26", "5A"), of up to four bytes; lengths are short or of one to three bytes, never
indefinite. Zero bytes between objects are padding.
"""

from collections.abc import Iterable

# Track 1 and 2 equivalent data, PAN, cardholder name, expiry, discretionary data of the tracks, contactless track 2
CARDHOLDER = frozenset(("56", "57", "5A", "5F20", "5F24", "9F1F", "9F20", "9F6B"))
_CARDHOLDER = frozenset(map(bytes.fromhex, CARDHOLDER))

_TEMPLATE = 0x20  # of the first byte of a tag
_TAG_BYTES_MAX = 4
_LENGTH_BYTES_MAX = 3
_DEPTH_MAX = 16  # of templates in templates; EMV nests two


def parse(data: bytes) -> list[tuple[str, bytes]]:
    """The objects in order, templates unopened. Raises ValueError with an offset and no data."""
    return [(tag.hex().upper(), value) for tag, value in _cut(data)]


def _cut(data: bytes) -> list[tuple[bytes, bytes]]:
    """The same with the tags as they stand there."""
    objects = []
    at, size = 0, len(data)
    while at < size:
        start = at
        first = data[at]
        at += 1
        if first == 0:
            continue
        if first & 0x1F == 0x1F:
            while at < size and data[at] & 0x80:
                at += 1
            at += 1
        if at >= size or at - start > _TAG_BYTES_MAX:
            raise ValueError(f"a tag does not end, or no length follows it, at byte {start}")
        tag = data[start:at]
        length = data[at]
        at += 1
        if length & 0x80:
            count = length & 0x7F
            if not 0 < count <= _LENGTH_BYTES_MAX or at + count > size:
                raise ValueError(f"length is indefinite, too long or cut off at byte {at - 1}")
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        end = at + length
        if end > size:
            raise ValueError(f"value is cut off at byte {at}")
        objects.append((tag, data[at:end]))
        at = end
    return objects


def build(objects: Iterable[tuple[str, bytes]]) -> bytes:
    """Objects as bytes, with the shortest lengths. Raises ValueError for a tag that is not hex."""
    return _joined((bytes.fromhex(tag), value) for tag, value in objects)


def _joined(objects: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(tag + _length(len(value)) + value for tag, value in objects)


def without_cardholder_data(data: bytes) -> bytes:
    """The same without the objects in CARDHOLDER, in templates too; `data` itself where there are none.

    A template that cannot be parsed stays as it is. Raises ValueError when the outermost level cannot be parsed, or when
    templates are nested so deeply that nobody can mean it.
    """
    return _without(data, _cut(data), _DEPTH_MAX)


def _without(data: bytes, objects: list[tuple[bytes, bytes]], depth: int) -> bytes:
    kept = [
        (tag, _opened(value, depth - 1) if tag[0] & _TEMPLATE else value)
        for tag, value in objects
        if tag not in _CARDHOLDER
    ]
    return data if kept == objects else _joined(kept)


def _opened(value: bytes, depth: int) -> bytes:
    if not depth:
        raise ValueError("templates are nested too deeply")
    try:
        objects = _cut(value)
    except ValueError:  # an issuer's script, whose commands are for the card alone
        return value
    return _without(value, objects, depth)


def _length(count: int) -> bytes:
    if count < 0x80:
        return bytes((count,))
    size = (count.bit_length() + 7) // 8
    return bytes((0x80 | size,)) + count.to_bytes(size, "big")
