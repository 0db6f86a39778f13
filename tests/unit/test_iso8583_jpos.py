"""jPOS packager files: the common classes are read as dialects, hostile or unknown ones are refused."""

from pathlib import Path

import pytest

from messages.iso8583 import Dialect, load_dialect
from messages.iso8583.jpos import CLASSES

DOCTYPE = '<!DOCTYPE isopackager PUBLIC "-//jPOS/jPOS Generic Packager DTD 1.0//EN" "http://jpos.invalid/genericpackager.dtd">'
HEADS = {
    "ascii": ("IFA_NUMERIC", "IFA_BITMAP"),
    "bcd": ("IFB_NUMERIC", "IFB_BITMAP"),
    "ebcdic": ("IFE_NUMERIC", "IFE_BITMAP"),
}


def packager(fields: str, head: str = "ascii", doctype: str = DOCTYPE) -> str:
    mti, bitmap = HEADS[head]
    return f"""<?xml version="1.0" encoding="UTF-8"?>
{doctype}
<isopackager>
  <!-- a partner's file -->
  <isofield id="0" length="4" name="MTI" class="org.jpos.iso.{mti}"/>
  <isofield id="1" length="16" name="BITMAP" class="org.jpos.iso.{bitmap}"/>
  {fields}
</isopackager>"""


def field(number: int, length: int, name: str, extra: str = "") -> str:
    return f'<isofield id="{number}" length="{length}" name="F{number}" class="org.jpos.iso.{name}" {extra}/>'


def load(tmp_path: Path, document: str) -> Dialect:
    path = tmp_path / "packager.xml"
    path.write_text(document, encoding="utf-8")
    return load_dialect(str(path))


WIRE = {
    "IF_CHAR": (8, "TERM01  ", b"TERM01  "),
    "IF_ECHAR": (3, "ABC", b"\xc1\xc2\xc3"),
    "IFE_CHAR": (3, "ABC", b"\xc1\xc2\xc3"),
    "IFA_NUMERIC": (6, "000012", b"000012"),
    "IFB_NUMERIC": (6, "000012", b"\x00\x00\x12"),
    "IFE_NUMERIC": (3, "012", b"\xf0\xf1\xf2"),
    "IFA_AMOUNT": (9, "C00000012", b"C00000012"),
    "IFB_AMOUNT": (9, "C00000012", b"C\x00\x00\x00\x12"),
    "IFA_BINARY": (2, "AB01", b"AB01"),
    "IFB_BINARY": (2, "AB01", b"\xab\x01"),
    "IFA_LLNUM": (19, "4111", b"044111"),
    "IFB_LLNUM": (19, "4111", b"\x04\x41\x11"),
    "IFE_LLNUM": (19, "41", b"\xf0\xf2\xf4\xf1"),
    "IFA_LLCHAR": (25, "AB", b"02AB"),
    "IFA_LLLCHAR": (999, "AB", b"002AB"),
    "IFB_LLCHAR": (25, "AB", b"\x02AB"),
    "IFB_LLLCHAR": (999, "AB", b"\x00\x02AB"),
    "IFE_LLLCHAR": (999, "AB", b"\xf0\xf0\xf2\xc1\xc2"),
    "IFA_LLLBINARY": (255, "AB01", b"002\xab\x01"),
    "IFB_LLLBINARY": (255, "AB01", b"\x00\x02\xab\x01"),
    "IFB_LLHNUM": (19, "411111111111", b"\x0c\x41\x11\x11\x11\x11\x11"),
    "IFB_LLHCHAR": (200, "ABCDEFGHIJ", b"\x0aABCDEFGHIJ"),
    "IFB_LLHECHAR": (25, "AB", b"\x02\xc1\xc2"),
    "IFB_LLHBINARY": (255, "AB01", b"\x02\xab\x01"),
    "IFB_LLLHBINARY": (999, "AB01", b"\x00\x02\xab\x01"),
    "IFEB_LLNUM": (19, "411", b"\xf0\xf2\x41\x1f"),
    "IFB_FLLNUM": (19, "411", b"\x03\x41\x1f"),
}


@pytest.mark.parametrize("name", WIRE)
def test_a_class_writes_on_the_wire_what_it_does_in_jpos(name: str, tmp_path: Path) -> None:
    length, value, wire = WIRE[name]
    dialect = load(tmp_path, packager(field(48, length, name)))
    assert dialect.encode_field(48, value) == wire
    payload = dialect.assemble("0200", {48: wire})
    assert dialect.decode(payload).fields == {48: value}


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_of_the_table_makes_a_field(name: str, tmp_path: Path) -> None:
    assert 48 in load(tmp_path, packager(field(48, 9, name))).fields


@pytest.mark.parametrize(("pad", "wire"), [("true", "0411"), ("false", "4110")])
def test_the_pad_attribute_tells_where_the_unused_nibble_is(pad: str, wire: str, tmp_path: Path) -> None:
    dialect = load(tmp_path, packager(field(22, 3, "IFB_NUMERIC", f'pad="{pad}"'), "bcd"))
    assert dialect.encode_field(22, "411") == bytes.fromhex(wire)


def test_tracks_may_hold_a_separator_though_jpos_calls_them_numbers(tmp_path: Path) -> None:
    dialect = load(tmp_path, packager(field(35, 37, "IFB_LLNUM", 'pad="true"'), "bcd"))
    assert dialect.encode_field(35, "411=2") == bytes.fromhex("05 0411D2")


@pytest.mark.parametrize(
    ("head", "start"),
    [("ascii", b"02004000000000000000"), ("bcd", b"\x02\x00\x40" + bytes(7)), ("ebcdic", "02004".encode("cp500"))],
)
def test_mti_and_bitmap_follow_fields_0_and_1(head: str, start: bytes, tmp_path: Path) -> None:
    assert load(tmp_path, packager(field(2, 19, "IFA_LLNUM"), head)).encode("0200", {2: "4111"}).startswith(start)


@pytest.mark.parametrize(("length", "version"), [(6, "1987"), (12, "1993"), (14, "2003")])
def test_the_version_is_known_by_the_length_of_the_local_time(length: int, version: str, tmp_path: Path) -> None:
    assert load(tmp_path, packager(field(12, length, "IFA_NUMERIC"))).version == version


NESTED = """<isofieldpackager id="90" length="42" name="ORIGINAL" class="org.jpos.iso.IF_CHAR" {attributes}
    packager="org.jpos.iso.packager.GenericSubFieldPackager">
  <isofield id="0" length="4" name="mti" class="org.jpos.iso.IFA_NUMERIC"/>
  <isofield id="1" length="38" name="rest" class="org.jpos.iso.{last}"/>
</isofieldpackager>"""


def test_nested_fields_of_plain_ascii_are_subfields(tmp_path: Path) -> None:
    dialect = load(tmp_path, packager(NESTED.format(attributes="", last="IF_CHAR")))
    assert dialect.subfields(90, "0200" + "7" * 38) == {"mti": "0200", "rest": "7" * 38}


@pytest.mark.parametrize(("attributes", "last"), [("", "IFEP_LLCHAR"), ('emitBitmap="true"', "IF_CHAR")])
def test_other_nested_fields_stay_one_value(attributes: str, last: str, tmp_path: Path) -> None:
    dialect = load(tmp_path, packager(NESTED.format(attributes=attributes, last=last)))
    assert dialect.fields[90].spec.subfields == ()


def test_a_field_that_does_nothing_and_the_third_bitmaps_mark_are_left_out(tmp_path: Path) -> None:
    fields = field(3, 6, "IF_NOP") + field(65, 1, "IFA_BINARY") + field(4, 12, "IFA_NUMERIC")
    assert list(load(tmp_path, packager(fields)).fields) == [4]


ENTITY = '<!DOCTYPE isopackager [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
REFUSED = {
    "an unknown class": (packager(field(48, 9, "IFX_STRANGE")), "field 48.*IFX_STRANGE"),
    "a class that needs its own code": (packager(field(48, 9, "IFA_LLABINARY")), "field 48.*IFA_LLABINARY"),
    "no MTI": ('<isopackager><isofield id="1" length="8" class="IFB_BITMAP"/></isopackager>', "MTI"),
    "another document": ("<configuration/>", "configuration"),
    "no XML": ("<isopackager", "not well-formed"),
    "a length that is none": (packager('<isofield id="2" length="x" class="org.jpos.iso.IFA_LLNUM"/>'), "length 'x'"),
    "a field beyond 192": (packager(field(193, 9, "IF_CHAR")), "193"),
    "an entity": (packager("", doctype=ENTITY), "entity"),
    "a document without end": (packager("<!--" + "x" * (1 << 20) + "-->"), "larger"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_safely_is_refused_with_the_reason(what: str, tmp_path: Path) -> None:
    document, reason = REFUSED[what]
    with pytest.raises(ValueError, match=reason):
        load(tmp_path, document)
