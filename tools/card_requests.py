"""Builds the card requests of a terminal: encoded once field by field, then a few fields are replaced per message."""

import random
import time
from collections.abc import Callable

import msgspec

from messages.iso8583 import Dialect
from tools.card_reader import CardReader
from tools.cards import Card

REQUEST, REPEAT, ANSWER = "0200", "0201", "0210"
ADVICE, REVERSAL = "0220", "0420"
ADVICE_ANSWER, REVERSAL_ANSWER = "0230", "0430"
REVERSED = (2, 3, 4, 12, 13, 14, 22, 25, 32, 37, 41, 42, 49)  # of a request, what its reversal repeats
SECRET = (35, 52)  # what no advice has
APPROVED = "00"
PROCESSING_CODES = ("010000", "010000", "010000", "000000")  # mostly withdrawals from the default account, some goods
CURRENCY = "978"
ACQUIRER = "00000123456"
CRYPTOGRAM_TAGS = (("9F26", 8), ("9F37", 4), ("9F36", 2), ("9F02", 6), ("9F41", 4))  # tags that change, and their bytes


class CardRequest(msgspec.Struct, frozen=True):
    """A request, advice or reversal and its repeat, as payloads."""

    payload: bytes
    repeat: bytes
    rrn: str
    rrn_bytes: bytes
    amount: int  # minor units
    mti: str = REQUEST

    @property
    def repeat_mti(self) -> str:
        return self.mti[:3] + "1"

    @property
    def answer_mti(self) -> str:
        return f"{self.mti[:2]}{int(self.mti[2]) + 1}0"


class Clock:
    """DE7, DE12 and DE13 of the present second, encoded once a second."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._second = 0
        self.encoded: dict[int, bytes] = {}

    def at(self, epoch: float) -> dict[int, bytes]:
        if int(epoch) != self._second:
            self._second = int(epoch)
            parts = time.gmtime(epoch)
            values = {7: "%m%d%H%M%S", 12: "%H%M%S", 13: "%m%d"}
            encode = self._dialect.encode_field
            self.encoded = {number: encode(number, time.strftime(form, parts)) for number, form in values.items()}
        return self.encoded


class CardTemplate:
    """The requests of one terminal with one card."""

    def __init__(self, dialect: Dialect, terminal_id: str, card: Card, dice: random.Random) -> None:
        values = {
            2: card.pan,
            3: dice.choice(PROCESSING_CODES),
            4: "0" * 12,
            7: "0101000000",
            11: "0" * 6,
            12: "0" * 6,
            13: "0101",
            14: card.expiry,
            18: "6011",
            22: "051",
            23: card.sequence,
            25: "00",
            32: ACQUIRER,
            35: card.track2,
            37: "0" * 12,
            41: terminal_id,
            42: f"MERCHANT{terminal_id[-7:]}",
            43: f"{'TEST BANK BRANCH ' + terminal_id[-4:]:<25}{'BRUSSELS':<13}BE",
            49: CURRENCY,
            52: "00" * 8,
            55: emv_data(card.sequence),
        }
        numbers = sorted(values)
        raw = {number: dialect.encode_field(number, values[number]) for number in numbers}
        whole = dialect.assemble(REQUEST, raw)
        head = whole[: len(whole) - sum(map(len, raw.values()))]
        mti = dialect.encode_mti(REQUEST)
        self._repeat_mti = dialect.encode_mti(REPEAT)
        self._mti_bytes = len(mti)
        self._parts = [head, *raw.values()]
        self._place = {number: place for place, number in enumerate(numbers, 1)}
        self._write = {number: field_writer(dialect, number, width) for number, width in ((4, 12), (11, 6), (37, 12))}
        self._write_pin = field_writer(dialect, 52, 16)
        self._chip = bytearray(raw[55])
        self._chip_places = [(self._tag_place(raw[55], tag), size) for tag, size in CRYPTOGRAM_TAGS]

    def build(self, stan: int, rrn: str, amount: int, times: dict[int, bytes], dice: random.Random) -> CardRequest:
        place, parts, write = self._place, self._parts, self._write
        rrn_bytes = write[37](rrn)
        amount_digits = f"{amount:012d}"
        parts[place[4]] = write[4](amount_digits)
        parts[place[11]] = write[11](f"{stan:06d}")
        parts[place[37]] = rrn_bytes
        for number, encoded in times.items():
            parts[place[number]] = encoded
        random_bytes = dice.randbytes(20)
        parts[place[52]] = self._write_pin(random_bytes[:8].hex().upper())
        counter = stan & 0xFFFF
        changed = (
            random_bytes[8:16],
            random_bytes[16:],
            counter.to_bytes(2, "big"),
            bytes.fromhex(amount_digits),
            stan.to_bytes(4, "big"),
        )
        chip = self._chip
        for (start, size), value in zip(self._chip_places, changed, strict=True):
            chip[start : start + size] = value
        parts[place[55]] = bytes(chip)
        payload = b"".join(parts)
        return CardRequest(payload, self._repeat_mti + payload[self._mti_bytes :], rrn, rrn_bytes, amount)

    @staticmethod
    def _tag_place(field: bytes, tag: str) -> int:
        """Where the value of a tag begins in the encoded field."""
        name = bytes.fromhex(tag)
        return field.index(name) + len(name) + 1


class Advices:
    """Makes a terminal's advices: of the sale that a request would have asked for, and the reversal of a request."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._reader = CardReader(dialect)

    def sale(self, request: CardRequest) -> CardRequest:
        """The sale was approved without asking; the issuer is told."""
        raw = self._reader.read(request.payload).raw
        kept = {number: value for number, value in raw.items() if number not in SECRET}
        return self._advice(ADVICE, {**kept, 39: self._dialect.encode_field(39, APPROVED)}, request)

    def reversal(self, request: CardRequest, stan: int, times: dict[int, bytes]) -> CardRequest:
        """Undoes the request, whatever came of it: a message of its own STAN and time, with DE90 of the request."""
        original = self._reader.read(request.payload)
        text, encode = original.text, self._dialect.encode_field
        named = f"{request.mti}{text(11):0>6}{text(7):0>10}{text(32):0>11}{'':0>11}"
        fields = {number: original.raw[number] for number in REVERSED}
        fields |= {7: times[7], 11: encode(11, f"{stan:06d}"), 90: encode(90, named)}
        return self._advice(REVERSAL, fields, request)

    def _advice(self, mti: str, fields: dict[int, bytes], of: CardRequest) -> CardRequest:
        payload = self._dialect.assemble(mti, dict(sorted(fields.items())))
        head = self._dialect.encode_mti(mti)
        repeat = self._dialect.encode_mti(mti[:3] + "1") + payload[len(head) :]
        return CardRequest(payload, repeat, of.rrn, of.rrn_bytes, of.amount, mti)


def emv_data(sequence: str) -> str:
    """The chip data of a withdrawal, EMV Book 3 annex A tags in hex; what changes per message is zero."""
    tags = {
        "9F26": "00" * 8,  # application cryptogram
        "9F27": "80",  # an ARQC: wants an online decision
        "9F10": "06010A03A0A800",  # issuer application data
        "9F37": "00" * 4,  # unpredictable number
        "9F36": "00" * 2,  # application transaction counter
        "95": "8000048000",  # terminal verification results
        "9A": time.strftime("%y%m%d", time.gmtime()),
        "9C": "01",  # cash
        "9F02": "00" * 6,  # amount authorised
        "5F2A": "0978",
        "82": "1980",  # application interchange profile
        "9F1A": "0056",
        "9F03": "00" * 6,
        "9F33": "6040C8",  # terminal capabilities
        "9F34": "020300",  # online PIN
        "9F35": "14",  # unattended, online only
        "9F1E": "3132333435363738",
        "84": "A0000000031010",
        "9F09": "0096",
        "9F41": "00" * 4,
        "5F34": sequence[1:],
    }
    return "".join(f"{tag}{len(value) // 2:02X}{value}" for tag, value in tags.items())


def field_writer(dialect: Dialect, number: int, width: int) -> Callable[[str], bytes]:
    """A cheap encoder for digits of a fixed width, found by looking at what the dialect makes of a sample."""
    sample = "123456789012345678"[:width]
    encoded = dialect.encode_field(number, sample)
    if encoded == sample.encode():
        return str.encode
    if width % 2 == 0 and encoded == bytes.fromhex(sample):
        return bytes.fromhex
    return lambda value: dialect.encode_field(number, value)


class AnswerReader:
    """Finds DE39 in an answer without decoding it: by where the RRN stands, and whether DE38 lies between."""

    def __init__(self, dialect: Dialect) -> None:
        self._mtis = {mti: dialect.encode_mti(mti) for mti in (ANSWER, ADVICE_ANSWER, REVERSAL_ANSWER)}
        self._hex_bitmap = len(dialect.assemble(ANSWER, {3: b""})) - len(self._mtis[ANSWER]) == 16
        self._de38_bytes = len(dialect.encode_field(38, "000000"))
        sample = dialect.encode_field(39, "00")
        self._encoding = "ascii" if sample == b"00" else "cp500"

    def code(self, payload: bytes, rrn_bytes: bytes, mti: str = ANSWER) -> str | None:
        """DE39 of the answer to this RRN; None when it is none."""
        if not payload.startswith(self._mtis[mti]):
            return None
        at = payload.find(rrn_bytes)
        if at < 0:
            return None
        bitmap = len(self._mtis[mti])
        fields_33_to_40 = int(payload[bitmap + 8 : bitmap + 10], 16) if self._hex_bitmap else payload[bitmap + 4]
        at += len(rrn_bytes) + (self._de38_bytes if fields_33_to_40 & 0x04 else 0)
        return payload[at : at + 2].decode(self._encoding)
