"""Reads the XML of a jPOS GenericPackager as a dialect, so that partners' packager files serve as they are.

Each `isofield` names a packager class; CLASSES tells what the common ones put on the wire. Nested packagers whose parts
are plain ASCII become subfields, all other nested fields stay one opaque value. The document's DTD is never loaded.
"""

from typing import TypeVar

import msgspec
from lxml import etree

from messages.iso8583.dialect import Layout
from messages.iso8583.field import FieldFormat

DOCUMENT_BYTES_MAX = 1 << 20
_ASCII, _EBCDIC = "ascii", "cp500"  # the nearest to jPOS's table that Python has; digits and letters are the same
_T = TypeVar("_T")
_TRACKS = ("35", "36")  # jPOS has them as numbers too


class Shape(msgspec.Struct, frozen=True):
    """What a packager class writes."""

    type: str  # of Notation
    indicator: int  # digits of the length; 0 when fixed
    encoding: str
    length_encoding: str = ""
    unit: str = ""
    filler: str = "0"  # of odd BCD; on the left with pad="true"


def _classes() -> dict[str, Shape]:
    table = {
        "IF_CHAR": Shape("ansb", 0, _ASCII),
        "IF_ECHAR": Shape("ansb", 0, _EBCDIC),
        "IFE_CHAR": Shape("ansb", 0, _EBCDIC),
        "IFE_ALPHANUM": Shape("ansb", 0, _EBCDIC),
        "IFA_NUMERIC": Shape("n", 0, _ASCII),
        "IFB_NUMERIC": Shape("n", 0, "bcd"),
        "IFB_FNUMERIC": Shape("n", 0, "bcd", filler="F"),
        "IFE_NUMERIC": Shape("n", 0, _EBCDIC),
        "IFA_AMOUNT": Shape("x+n", 0, _ASCII),
        "IFB_AMOUNT": Shape("x+n", 0, "bcd"),
        "IFE_AMOUNT": Shape("x+n", 0, _EBCDIC),
        "IFA_BINARY": Shape("b", 0, "hex"),
        "IFB_BINARY": Shape("b", 0, "binary"),
    }
    for digits in (1, 2, 3, 4):
        size = "L" * digits
        table[f"IFA_{size}CHAR"] = Shape("ansb", digits, _ASCII, _ASCII)
        table[f"IFA_{size}NUM"] = Shape("n", digits, _ASCII, _ASCII)
        table[f"IFA_{size}BINARY"] = Shape("b", digits, "binary", _ASCII)
        table[f"IFB_{size}CHAR"] = Shape("ansb", digits, _ASCII, "bcd")
        table[f"IFB_{size}NUM"] = Shape("n", digits, "bcd", "bcd")
        table[f"IFB_F{size}NUM"] = Shape("n", digits, "bcd", "bcd", filler="F")
        table[f"IFB_{size}BINARY"] = Shape("b", digits, "binary", "bcd")
        table[f"IFB_{size}HCHAR"] = Shape("ansb", digits, _ASCII, "binary")
        table[f"IFB_{size}HECHAR"] = Shape("ansb", digits, _EBCDIC, "binary")
        table[f"IFB_{size}HNUM"] = Shape("n", digits, "bcd", "binary")
        table[f"IFB_{size}HBINARY"] = Shape("b", digits, "binary", "binary")
        table[f"IFE_{size}CHAR"] = Shape("ansb", digits, _EBCDIC, _EBCDIC)
        table[f"IFE_{size}NUM"] = Shape("n", digits, _EBCDIC, _EBCDIC)
        table[f"IFE_{size}BINARY"] = Shape("b", digits, "binary", _EBCDIC)
        table[f"IFEB_{size}NUM"] = Shape("n", digits, "bcd", _EBCDIC, "bytes", "F")
    return table


CLASSES = _classes()
MTI_CLASSES = {"IFA_NUMERIC": _ASCII, "IFB_NUMERIC": "bcd", "IFE_NUMERIC": _EBCDIC}
BITMAP_CLASSES = {"IFA_BITMAP": _ASCII, "IFB_BITMAP": "binary", "IFE_BITMAP": _EBCDIC}
_NO_FIELD = "IF_NOP"
_VERSIONS = {12: "1993", 14: "2003"}  # by the length of DE12; else 1987


def read_packager(document: bytes) -> Layout:
    """The layout that a GenericPackager file describes. Raises ValueError that names class and field."""
    root = _parse(document)
    if root.tag != "isopackager":
        raise ValueError(f"the root is {root.tag}, not isopackager")
    elements = {element.get("id", ""): element for element in root.iterchildren("isofield", "isofieldpackager")}
    for number, what in (("0", "MTI"), ("1", "bitmap")):
        if number not in elements:
            raise ValueError(f"no field {number}, the {what}")
    fields = {}
    for number, element in elements.items():
        # 65 only marks the third bitmap, which pyiso8583 reads by itself
        if number in ("0", "1", "65") or _class(element) == _NO_FIELD:
            continue
        if not number.isdecimal() or not 2 <= int(number) <= 192:
            raise ValueError(f"field id {number!r} is not in 0 to 192")
        fields[int(number)] = _field(element)
    timestamp = elements.get("12")
    length = _length(timestamp) if timestamp is not None else 0
    mti = _choose(elements["0"], MTI_CLASSES)
    return Layout(_VERSIONS.get(length, "1987"), mti, _choose(elements["1"], BITMAP_CLASSES), fields)


def _parse(document: bytes) -> etree._Element:
    """No entity, no DTD, no network: a packager file may come from a partner."""
    if len(document) > DOCUMENT_BYTES_MAX:
        raise ValueError(f"larger than {DOCUMENT_BYTES_MAX} bytes")
    if b"<!ENTITY" in document or b"\0" in document:  # NUL: an encoding in which the first test sees nothing
        raise ValueError("declares an entity, or is not in a single-byte encoding or UTF-8")
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, remove_comments=True)
    try:
        return etree.fromstring(document, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"not well-formed: {error.msg}") from None


def _field(element: etree._Element) -> FieldFormat:
    shape = _choose(element, CLASSES)
    number = element.get("id", "")
    kind = "z" if shape.type == "n" and number in _TRACKS else shape.type
    return FieldFormat(
        format=_format(kind, shape.indicator, _length(element)),
        name=element.get("name", ""),
        encoding=shape.encoding,
        length_encoding=shape.length_encoding,
        length_unit=shape.unit,
        # pad="true" packs a 0 on the left also in the classes that else fill with F
        pad="left 0" if element.get("pad") == "true" and not shape.unit else f"right {shape.filler}",
        subfields=_subfields(element),
    )


def _subfields(element: etree._Element) -> tuple[tuple[str, str], ...]:
    parts = []
    for part in element.iterchildren():
        shape = CLASSES.get(_class(part))
        plain = shape is not None and shape.encoding == _ASCII and shape.length_encoding in ("", _ASCII)
        if shape is None or not plain or part.tag != "isofield":
            return ()
        name = part.get("name") or part.get("id") or ""
        parts.append((name, _format(shape.type, shape.indicator, _length(part))))
    return tuple(parts) if element.get("emitBitmap") != "true" else ()


def _format(kind: str, indicator: int, length: int) -> str:
    if kind == "x+n":
        length -= 1  # jPOS counts the sign
    return f"{kind}{'.' * indicator}{length}"


def _class(element: etree._Element) -> str:
    return (element.get("class") or "").rpartition(".")[2]


def _choose(element: etree._Element, table: dict[str, _T]) -> _T:
    found = table.get(_class(element))
    if found is None:
        raise ValueError(f"field {element.get('id')}: class {element.get('class')!r} is not known here")
    return found


def _length(element: etree._Element) -> int:
    length = element.get("length", "")
    if not (length.isdecimal() and length.isascii()):
        raise ValueError(f"field {element.get('id')}: length {length!r} is not a number")
    return int(length)
