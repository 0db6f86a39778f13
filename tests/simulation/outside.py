"""What is said in the outside world: card messages, and how their streams are cut. It knows nothing of the switch.

Cards are ISO 8583:1987 in ASCII behind a two-byte length. A deal's identity is its RRN (DE37), in all messages about it.
Who speaks: terminals.py and issuer.py.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from world import Violation

from messages.iso8583.codec import Iso8583Codec
from messages.iso8583.options import Iso8583Options

DIALECT = Iso8583Codec(Iso8583Options()).dialect
PAN = "4539511619543487"  # to be seen nowhere but on the wire
TRACK = f"{PAN}=30122011000012345678"
PINBLOCK = "7A3B19C4D5E6F708"
BIN = "49294801"  # of cards that are used without PIN, and that stand-in may approve
CARDS = tuple(f"{BIN}0000{number:04d}" for number in range(1, 4))
FRAME_MAX = 2_000  # bytes
DELAYED_ACK_S = 0.06  # Linux acknowledges within 40 ms
APPROVED = ("00", "10")  # DE39; 10: of a part of the amount
_STAN, _RRN, _AMOUNT, _TERMINAL, _ORIGINAL, _PAN = (
    "909091", "909090909092", "000090909093", "TERM9094", "909095", "4929480190909096",
)  # fmt: skip
_CASH = {
    2: PAN, 3: "010000", 4: _AMOUNT, 7: "0301100000", 11: _STAN, 12: "100000", 13: "0301", 22: "051", 25: "00",
    32: "123456", 35: TRACK, 37: _RRN, 41: _TERMINAL, 42: "MERCHANT0000001", 49: "978", 52: PINBLOCK,
}  # fmt: skip
_PURCHASE = {number: value for number, value in _CASH.items() if number != 52}
_PURCHASE |= {2: _PAN, 3: "000000", 35: f"{_PAN}=30122011000012345678"}


KEPT = (2, 3, 22, 25, 35, 41, 42, 49, 52)  # of a request: what its issuer must get as its terminal has sent it


def kept(fields: dict[int, str]) -> tuple[str, ...]:
    return tuple(fields.get(number, "") for number in KEPT)


@cache
def _template(mti: str, card: bool, original: str) -> bytes:
    """A message with placeholders. `original`: MTI of what it is about, named by DE90."""
    fields = dict(_PURCHASE if card else _CASH)
    if original:
        fields.pop(35)
        fields.pop(52, None)
        fields[90] = f"{original}{_ORIGINAL}0301100000{'0' * 22}"
    return DIALECT.assemble(mti, {number: DIALECT.encode_field(number, fields[number]) for number in sorted(fields)})


def compose(
    mti: str, stan: str, rrn: str, amount: int, terminal: str, *, card: str = "", original: tuple[str, str] = ("", "")
) -> bytes:
    """A message of a terminal. `card`: its number; "" is a withdrawal with PAN and PIN. `original`: MTI and STAN."""
    payload = _template(mti, bool(card), original[0])
    for placeholder, value in (
        (_STAN, stan), (_ORIGINAL, original[1]), (_RRN, rrn), (_AMOUNT, f"{amount:012d}"), (_TERMINAL, terminal),
        (_PAN, card),
    ):  # fmt: skip
        payload = payload.replace(placeholder.encode(), value.encode())
    return payload


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(2, "big") + payload


class Frames:
    """Cuts a stream. What does not begin with a frame is a violation: streams are exact."""

    def __init__(self, whose: str, decode: Callable[[bytes], Any]) -> None:
        self.whose, self.decode = whose, decode
        self.rest = b""

    def take(self, data: bytes) -> list[Any]:
        """The messages that are complete by now, decoded."""
        self.rest += data
        found = []
        while len(self.rest) >= 2:
            size = int.from_bytes(self.rest[:2], "big")
            if size > FRAME_MAX:
                raise Violation(f"{self.whose}: its stream cannot be cut into frames")
            if len(self.rest) < 2 + size:
                break
            found.append(self.decode(self.rest[2 : 2 + size]))
            self.rest = self.rest[2 + size :]
        return found
