"""What one message costs in microseconds: our codecs beside the libraries they stand on, in turns."""

import functools
import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import iso8583
import msgspec
from lxml import etree

from messages.iso8583 import Dialect, Iso8583Codec, Iso8583Options, load_dialect, shipped_dialects
from messages.iso20022 import Iso20022Codec, Iso20022Options
from messages.message import Reason
from tools.card_requests import emv_data
from tools.cards import issue_cards
from tools.transfer_requests import built_in_templates

SLICE_S = 0.004  # of each case in each round: most slices are not interrupted

# where the formats of the versions differ, the later form is below
PURCHASE_1987 = {
    3: "000000", 4: "000000012345", 7: "1122123456", 11: "123456", 12: "123456", 13: "1122", 18: "5411", 22: "051",
    25: "00", 32: "00000123456", 37: "123456789012", 41: "TERM0001", 42: "MERCHANT0000001",
    43: "A SHOP                   BRUSSELS     BE", 49: "978", 52: "0123456789ABCDEF",
}  # fmt: skip
PURCHASE_1993 = {**PURCHASE_1987, 12: "261122123456", 22: "051000000001", 24: "200", 25: "1400"}
PURCHASE_2003 = {number: value for number, value in PURCHASE_1993.items() if number not in (18, 49)} | {
    4: "9782000000012345", 11: "000000123456", 12: "20261122123456", 22: "00" * 15 + "01", 26: "5411",
}  # fmt: skip
PURCHASES = {"1987": ("0200", PURCHASE_1987), "1993": ("1200", PURCHASE_1993), "2003": ("2200", PURCHASE_2003)}


class Cost(msgspec.Struct, frozen=True):
    """Microseconds a call. beside: the name of the case to compare with, if there is one."""

    name: str
    bytes: int
    best_us: float
    median_us: float
    beside: str = ""


class Case(msgspec.Struct, frozen=True):
    """One thing to time: a call on a message of so many bytes."""

    name: str
    size: int
    call: Callable[[], Any]
    beside: str = ""


def measure(rounds: int, slice_s: float = SLICE_S) -> list[Cost]:
    """Every case for a short time in each round, so that what else runs on the machine meets all of them."""
    cases = [*card_cases(), *codec_cases(), *transfer_cases()]
    counts = [_calibrate(case.call, slice_s) for case in cases]
    taken: list[list[float]] = [[] for _ in cases]
    for _ in range(rounds):
        for case, count, times in zip(cases, counts, taken, strict=True):
            times.append(_time(case.call, count) / count * 1e6)
    return [
        Cost(case.name, case.size, round(min(times), 2), round(statistics.median(times), 2), case.beside)
        for case, times in zip(cases, taken, strict=True)
    ]


def _time(call: Callable[[], Any], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - began


def _calibrate(call: Callable[[], Any], slice_s: float) -> int:
    call()
    return max(int(slice_s / max(_time(call, 5) / 5, 1e-7)), 1)


def purchase(dialect: Dialect) -> bytes:
    """A purchase with card, track 2, PIN block and chip data."""
    mti, fields = PURCHASES[dialect.version]
    card = issue_cards(1, random.Random(1))[0]
    values = {2: card.pan, 14: card.expiry, 23: card.sequence, 35: card.track2, 55: emv_data(card.sequence), **fields}
    return dialect.encode(mti, dict(sorted(values.items())))


def card_cases() -> list[Case]:
    """Each dialect's decoding and encoding beside what pyiso8583 takes for the same bytes with the same table."""
    cases = []
    for name in shipped_dialects():
        dialect = load_dialect(name)
        payload = purchase(dialect)
        body = dialect.decode(payload)
        # the very table that the dialect hands to the library, and the document as the library wants it
        table = dialect._spec
        document, _ = iso8583.decode(payload, table)
        plain = f"pyiso8583 {name}"
        cases += [
            Case(f"{plain} decode", len(payload), functools.partial(iso8583.decode, payload, table)),
            Case(f"{name} decode", len(payload), functools.partial(dialect.decode, payload), f"{plain} decode"),
            Case(f"{plain} encode", len(payload), functools.partial(iso8583.encode, document, table)),
            Case(
                f"{name} encode", len(payload), functools.partial(dialect.encode, body.mti, body.fields),
                f"{plain} encode",
            ),
        ]  # fmt: skip
    return cases


def codec_cases() -> list[Case]:
    """What the switch does to a card transaction: terminal in iso87-binary, network in iso87-ascii."""
    terminal = Iso8583Codec(Iso8583Options(dialect="iso87-binary"))
    network = Iso8583Codec(Iso8583Options(dialect="iso87-ascii"))
    payload = purchase(terminal.dialect)
    request = terminal.decode(payload)
    original = terminal.original(request)
    forwarded = network.forward(request, 123457, terminal).payload
    fields = network.dialect.decode(forwarded).fields
    kept = {number: value for number, value in fields.items() if number not in (14, 18, 22, 23, 25, 35, 43, 52, 55)}
    reply = network.dialect.encode("0210", {**kept, 38: "123456", 39: "00"})
    outcome = network.decode(reply).outcome
    assert outcome is not None
    return [
        Case("cards: decode the request", len(payload), functools.partial(terminal.decode, payload)),
        Case("cards: keep the original", len(original), functools.partial(terminal.original, request)),
        Case(
            "cards: forward, other dialect", len(forwarded),
            functools.partial(network.forward, request, 123457, terminal),
        ),
        Case("cards: forward, same dialect", len(payload), functools.partial(terminal.forward, request, 1, terminal)),
        Case("cards: decode the answer", len(reply), functools.partial(network.decode, reply)),
        Case(
            "cards: answer", len(terminal.answer(original, outcome)),
            functools.partial(terminal.answer, original, outcome),
        ),
    ]  # fmt: skip


def transfer_cases() -> list[Case]:
    """A pacs.008 with and without header beside parsing it with lxml and nothing else; what follows on it."""
    codec = Iso20022Codec(Iso20022Options())
    bare, wrapped = (
        template.build("BENCH", 1, datetime.now(UTC), random.Random(1)).payload
        for template in built_in_templates()[:2]
    )
    request = codec.decode(wrapped)
    original = codec.original(request)
    refusal = codec.refuse(original, Reason.TIMEOUT)
    report = codec.answer(original, refusal)
    return [
        Case("lxml pacs.008", len(bare), functools.partial(etree.fromstring, bare)),
        Case("pacs.008 decode", len(bare), functools.partial(codec.decode, bare), "lxml pacs.008"),
        Case("lxml pacs.008 in an envelope", len(wrapped), functools.partial(etree.fromstring, wrapped)),
        Case(
            "pacs.008 in an envelope decode", len(wrapped), functools.partial(codec.decode, wrapped),
            "lxml pacs.008 in an envelope",
        ),
        Case("transfers: keep the original", len(original), functools.partial(codec.original, request)),
        Case("transfers: forward", len(wrapped), functools.partial(codec.forward, request, 0, codec)),
        Case("transfers: make a pacs.002", len(report), functools.partial(codec.answer, original, refusal)),
        Case("pacs.002 decode", len(report), functools.partial(codec.decode, report)),
    ]  # fmt: skip
