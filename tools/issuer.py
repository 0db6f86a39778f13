"""The mind of a simulated card issuer: authorises requests, books advices and reversals, answers network management.

A request that comes twice is posted twice (see tools/ledger.py); advices and reversals are idempotent by their
original, as at real hosts. A request whose reversal came first is declined: on two sessions either order is possible.
When it is told to, it does not hear a message at all, or has no time for an advice the first time that it comes.
"""

import random
from collections.abc import Mapping

from msgspec import structs

from messages.iso8583 import Dialect, load_dialect
from messages.message import MessageError
from tools.card_reader import CardError, CardMessage, CardReader
from tools.decisions import DeclineRules
from tools.faults import FaultPlan, Faults
from tools.host import Heard, Line
from tools.ledger import Ledger, Undone, account_token

APPROVED = "00"
NOT_FOUND = "25"  # reversal of what was never posted
DUPLICATE = "94"  # request that was reversed before it came
BUSY = "91"

# the fields an answer carries back, by MTI class
ECHOED: Mapping[str, tuple[int, ...]] = {
    "1": (2, 3, 4, 7, 11, 12, 13, 32, 33, 37, 41, 42, 49),
    "2": (2, 3, 4, 7, 11, 12, 13, 32, 33, 37, 41, 42, 49),
    "4": (2, 3, 4, 7, 11, 32, 33, 37, 41, 42, 49, 90),
    "8": (7, 11, 37, 41, 70),
}
ISSUER_AUTHENTICATION = "910A{cryptogram}3030"  # EMV tag 91: ARPC and the authorisation response code "00"


class Issuer:
    """An `Application` that speaks one ISO 8583:1987 dialect."""

    def __init__(
        self, dialect: str, ledger: Ledger, rules: DeclineRules, seed: int, faults: Faults | None = None
    ) -> None:
        self._dialect: Dialect = load_dialect(dialect)
        self._reader = CardReader(self._dialect)
        self._ledger = ledger
        self._rules = rules
        self._dice = random.Random(seed)
        self._faults = faults or Faults(FaultPlan())
        self._sent_away: set[tuple[str, ...]] = set()  # advices that were told to come again

    def receive(self, payload: bytes) -> Heard:
        try:
            message = self._reader.read(payload)
            key = (message.text(37), message.text(41)) if 37 in message.raw else ()
            line = Line(message.mti, key, message.number(4))
            return self._answer(message, line)
        except (CardError, MessageError) as error:
            return Heard(Line("undecodable", note=str(error)))

    def _answer(self, message: CardMessage, line: Line) -> Heard:
        mti, encode = message.mti, self._dialect.encode_field
        if mti[1] not in ECHOED or int(mti[2]) % 2:
            return Heard(structs.replace(line, note="not a request"))
        if mti[1] != "8" and self._faults.drop.strikes():
            return Heard(structs.replace(line, note="dropped on purpose"))
        answer = {number: message.raw[number] for number in ECHOED[mti[1]] if number in message.raw}
        code = BUSY if self._busy(message, line) else self._decide(message, line)
        answer[39] = encode(39, code)
        if mti[1] in "12" and code == APPROVED:
            answer[38] = encode(38, f"{self._dice.randrange(10**6):06d}")
            if 55 in message.raw:
                cryptogram = self._dice.randbytes(8).hex().upper()
                answer[55] = encode(55, ISSUER_AUTHENTICATION.format(cryptogram=cryptogram))
        answer_mti = f"{mti[:2]}{int(mti[2]) + 1}0"
        return Heard(
            line,
            self._dialect.assemble(answer_mti, answer),
            Line(answer_mti, line.key, line.amount, code),
            None if mti[1] == "8" else lambda: self._wrong(answer_mti, answer, message),
        )

    def _busy(self, message: CardMessage, line: Line) -> bool:
        """Whether an advice is told to come again: once at the most."""
        which = (message.mti[1], *line.key)
        if message.mti[1] != "4" and message.mti[2] != "2":
            return False
        if which in self._sent_away or not self._faults.busy.strikes():
            return False
        self._sent_away.add(which)
        return True

    def _decide(self, message: CardMessage, line: Line) -> str:
        """Book the message; returns DE39."""
        stan = message.text(11)
        match message.mti[1], message.mti[2]:
            case "8", _:
                return APPROVED
            case "4", _:
                original_stan = message.text(90)[4:10]
                undone = self._ledger.undo(line.key, original_stan)
                return NOT_FOUND if undone is Undone.NOTHING else APPROVED
            case _, "2":  # done already by a stand-in: to be booked, once
                if not self._ledger.posted(line.key):
                    self._post(message, line, stan)
                return APPROVED
        if self._ledger.undone(line.key, stan):
            return DUPLICATE
        code = self._rules.code(message.pan, line.amount or 0)
        if not code:
            self._post(message, line, stan)
        return code or APPROVED

    def _post(self, message: CardMessage, line: Line, stan: str) -> None:
        self._ledger.post(line.key, stan, account_token(message.pan), line.amount or 0, message.text(49))

    def _wrong(self, mti: str, answer: Mapping[int, bytes], message: CardMessage) -> bytes:
        """The same answer with an RRN, a STAN or both that nobody waits for."""
        changed = dict(answer)
        which = self._dice.choice(((37,), (11,), (37, 11)))
        if 37 in which:
            changed[37] = self._dialect.encode_field(37, "WRONG" + message.text(37)[5:].rjust(7, "0"))
        if 11 in which:
            changed[11] = self._dialect.encode_field(11, f"{((message.number(11) or 0) + 500_000) % 10**6:06d}")
        return self._dialect.assemble(mti, changed)
