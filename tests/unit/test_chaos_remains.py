"""Card and account data in clear are found whatever they look like, without being shown, and so is a log that grows."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from messages.iso8583 import load_dialect
from switch.mirror.keys import Keys, Position
from tools.card_requests import CardTemplate, Clock
from tools.cards import issue_cards
from tools.chaos_remains import exposed, exposures, overgrown
from tools.transfer_requests import built_in_templates

CARD = issue_cards(1, random.Random(1))[0]
PAN = CARD.pan.encode()
KEYS = Keys("demo")


def card_request(dialect: str) -> bytes:
    loaded, dice = load_dialect(dialect), random.Random(2)
    template = CardTemplate(loaded, "T0000001", CARD, dice)
    return template.build(7, "123456789012", 5_000, Clock(loaded).at(1.0), dice).payload


def transfer_request() -> bytes:
    return built_in_templates()[0].build("1", 1, datetime(2026, 11, 30, tzinfo=UTC), random.Random(3)).payload


FORMS: list[Callable[[bytes], bytes]] = [
    lambda data: data,
    lambda data: b"\xff\x00key=" + data + b" more\xfe",
    lambda data: data.hex().encode(),
    lambda data: b"0" + data.hex().upper().encode(),
]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_in_clear_is_found(form: Callable[[bytes], bytes]) -> None:
    packed = bytes.fromhex(CARD.pan)
    shifted = bytes.fromhex(f"3{CARD.pan}F")
    track_2 = CARD.track2.replace("=", "D").encode()
    for data in (PAN, packed, shifted, b"9" + PAN + b"9", track_2, card_request("iso87-binary"), card_request("iso87-ascii")):
        assert exposed(form(data)) == "a card's number"
    assert exposed(form(transfer_request())) == "an account's number"


def test_what_is_masked_or_sealed_is_not() -> None:
    assert exposed(PAN[:6] + b"******" + PAN[-4:]) == ""
    assert exposed(PAN[:-1] + (b"1" if PAN[-1:] == b"0" else b"0")) == ""  # no card: its check digit is wrong
    assert exposed(random.Random(4).randbytes(1 << 20)) == ""
    assert exposed(b"pan=410000 rrn=123456789012 terminal=T0000001 uetr=7f1e0000-0000-4000-8000-000000000000") == ""


def test_it_is_said_where_it_was_found_and_not_what(tmp_path: Path) -> None:
    log = tmp_path / "node-a.log"
    log.write_bytes(b"node.live incarnation=a1\nframe=" + card_request("iso87-binary").hex().encode() + b"\n")
    values = [(b"/switch/demo/head", b""), (b"/switch/demo/log/a/1/1", PAN)]
    assert exposures(values, [log]) == [
        "etcd has a card's number in clear under /switch/demo/log/a/1/1", "node-a.log shows a card's number in line 2"
    ]  # fmt: skip
    assert exposures(values * 20, [])[-1] == "... and 10 places more"


def log_keys(count: int) -> list[bytes]:
    return [KEYS.entry(Position("ab"[number % 2], 1, number)) for number in range(count)]


def test_a_log_that_was_cut_back_is_as_it_should_be() -> None:
    snapshots = [KEYS.chunk(index, number) for index in (1000, 2000) for number in range(50)]
    others = [KEYS.head, KEYS.pointer, KEYS.fence("a"), *(KEYS.segment(str(number)) for number in range(50))]
    assert overgrown([*log_keys(3480), *snapshots, *others], KEYS.prefix, 1000, 250) == []


def test_a_log_that_was_not_is_a_finding_and_so_are_old_snapshots() -> None:
    assert overgrown(log_keys(3481), KEYS.prefix, 1000, 250) == [
        "the log is not truncated: 3481 entries are left in etcd, and 3480 at most can be due"
    ]
    assert overgrown(log_keys(1000), KEYS.prefix, 100, 250) != []
    kept = [KEYS.chunk(index, 0) for index in range(1000, 6000, 1000)]
    assert overgrown(kept, KEYS.prefix, 1000, 250) == ["old snapshots are not deleted: etcd has chunks of 5"]
