"""Messages that others wrote: each is understood by a dialect, or the table says why it is not.

The messages are not part of the project; without them the tests are skipped.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from messages.iso8583 import Dialect, load_dialect
from messages.message import MessageError

SOURCE = Path(__file__).parents[2].parent / "shared" / "reference" / "iso8583" / "messages.jsonl"
pytestmark = pytest.mark.skipif(not SOURCE.is_file(), reason="no reference messages beside the checkout")

SHIPPED = {
    "iso87-ascii": "012 018 019 021 022 023 035 036 128 129 130 131 132",
    "iso87-binary": "116 117 118 119 120 121",
}
# private formats, told by a few lines over a shipped dialect
PRIVATE = {
    "a field beyond 128, behind a third bitmap": ("013", '[fields]\n130 = { format = "n1" }'),
    "ASCII with a binary bitmap": ("108", 'bitmap = "binary"'),
    "a binary bitmap and BCD in some fields, padded left in one and right in another": (
        "014",
        'bitmap = "binary"\n[fields]\n19 = { encoding = "bcd" }\n'
        '49 = { format = "n3", encoding = "bcd", pad = "right 0" }\n52 = { encoding = "binary" }',
    ),
    "text in DE55": ("020 024 025 026 027", '[fields]\n55 = { format = "ans...999", encoding = "ascii" }'),
    "EBCDIC in one field": ("028", '[fields]\n42 = { encoding = "cp500" }'),
    "a BCD length before ASCII data": ("032", '[fields]\n48 = { length_encoding = "bcd" }'),
    "an amount of seven digits": ("033", '[fields]\n28 = { format = "x+n7" }'),
    "BCD in some fields of an ASCII message": (
        "034",
        '[fields]\n7 = { encoding = "bcd" }\n11 = { encoding = "bcd" }\n12 = { encoding = "bcd" }',
    ),
    "a packed track whose length counts bytes": (
        "111",
        '[fields]\n35 = { encoding = "bcd", length_unit = "bytes", pad = "right F" }\n52 = { encoding = "binary" }',
    ),
    "a terminal identification of 16": ("126", '[fields]\n41 = { format = "ans16" }'),
}
REFUSED = {
    "015": "DE120 is cut short, on purpose",
    "016": "DE3 holds a letter, on purpose; DE2 is the only other field",
    "017": "DE55 is cut short, on purpose",
    "029": "DE28 is cut short, on purpose",
    "030": "the length of DE48 is BCD from the left (0080 for 8)",
    "031": "the length of DE32 is hexadecimal text",
    "037": "DE35 holds letters in EBCDIC, on purpose",
    "038": "DE35 is EBCDIC among ASCII and holds the letter F, which no track has",
    "109": "DE4 has four digits too many, on purpose",
    "110": "lengths of DE56 and later are two bytes of characters in a private way",
    "125": "the MTI is cut off and DE41 is of a private length",
    "127": "the PAN is a text of letters, an example of documentation",
}
# where a value is written otherwise here than in its source: it means the same
WRITTEN_OTHERWISE = {
    ("111", "35"): "56554433367776?20030202020",  # the nibble F is the question mark of a track
    ("111", "52"): "1234567890ABCD11",  # binary is upper-case hex
    ("014", "43"): "Test text".rjust(40),  # blanks stay
}


def read() -> dict[str, dict[str, Any]]:
    if not SOURCE.is_file():
        return {}
    lines = SOURCE.read_text(encoding="utf-8").splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}


def payload_of(record: dict[str, Any]) -> bytes:
    payload = bytes.fromhex(record["hex"])[record["header_bytes"] :]
    return payload if record["id"] != "126" else b"0200" + payload  # its MTI was cut off


def assert_understood(dialect: Dialect, record: dict[str, Any]) -> None:
    payload = payload_of(record)
    message = dialect.decode(payload)
    for number, value in record["fields"].items():
        found = message.mti if number == "0" else message.fields[int(number)]
        assert found == WRITTEN_OTHERWISE.get((record["id"], number), value), f"DE{number}"
    assert dialect.assemble(message.mti, message.raw) == payload


def test_every_message_is_in_one_of_the_tables() -> None:
    listed = [*" ".join(SHIPPED.values()).split(), *REFUSED]
    listed += [identity for ids, _ in PRIVATE.values() for identity in ids.split()]
    assert sorted(listed) == sorted(read())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_dialects_understand_standard_messages_and_give_them_back(name: str) -> None:
    records = read()
    for identity in SHIPPED[name].split():
        assert_understood(load_dialect(name), records[identity])


@pytest.mark.parametrize("what", PRIVATE)
def test_a_few_lines_of_toml_make_a_dialect_for(what: str, tmp_path: Path) -> None:
    ids, changes = PRIVATE[what]
    path = tmp_path / "private.toml"
    path.write_text(f'base = "iso87-ascii"\n{changes}\n', encoding="utf-8")
    for identity in ids.split():
        assert_understood(load_dialect(str(path)), read()[identity])


@pytest.mark.parametrize("identity", REFUSED)
def test_what_is_wrong_or_too_private_is_refused_with_its_place(identity: str) -> None:
    payload = payload_of(read()[identity])
    for name in (*SHIPPED, "iso87-ebcdic"):
        with pytest.raises(MessageError) as caught:
            load_dialect(name).decode(payload)
        assert caught.value.field
