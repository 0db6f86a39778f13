"""The mind of a simulated card issuer: authorises requests, books advices and reversals, answers network management.

A request that comes twice is posted twice (see tools/ledger.py); advices and reversals are idempotent by their
original, as at real hosts. A request whose reversal came first is declined: on two sessions either order is possible.
"""

import random
from collections.abc import Mapping

from msgspec import structs

from messages.iso8583 import Dialect, load_dialect
from messages.message import MessageError
from tools.decisions import DeclineRules
from tools.host import Heard, Line
from tools.ledger import Ledger, Undone, account_token

APPROVED = "00"
NOT_FOUND = "25"  # reversal of what was never posted
DUPLICATE = "94"  # request that was reversed before it came

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

    def __init__(self, dialect: str, ledger: Ledger, rules: DeclineRules, seed: int) -> None:
        self._dialect: Dialect = load_dialect(dialect)
        self._ledger = ledger
        self._rules = rules
        self._dice = random.Random(seed)

    def receive(self, payload: bytes) -> Heard:
        try:
            message = self._dialect.decode(payload)
        except MessageError as error:
            return Heard(Line("undecodable", note=str(error)))
        mti, fields = message.mti, message.fields
        line = Line(mti, self._key(fields), _amount(fields))
        if mti[1] not in ECHOED or int(mti[2]) % 2:
            return Heard(structs.replace(line, note="not a request"))
        answer = {number: fields[number] for number in ECHOED[mti[1]] if number in fields}
        answer[39] = self._decide(mti, fields, line)
        if mti[1] in "12" and answer[39] == APPROVED:
            answer[38] = f"{self._dice.randrange(10**6):06d}"
            if 55 in fields:
                answer[55] = ISSUER_AUTHENTICATION.format(cryptogram=self._dice.randbytes(8).hex().upper())
        answer_mti = f"{mti[:2]}{int(mti[2]) + 1}0"
        return Heard(
            line,
            self._dialect.encode(answer_mti, answer),
            Line(answer_mti, line.key, line.amount, answer[39]),
            None if mti[1] == "8" else lambda: self._wrong(answer_mti, answer),
        )

    @staticmethod
    def _key(fields: Mapping[int, str]) -> tuple[str, ...]:
        return (fields.get(37, ""), fields.get(41, "")) if 37 in fields else ()

    def _decide(self, mti: str, fields: Mapping[int, str], line: Line) -> str:
        """Book the message; returns DE39."""
        stan = fields.get(11, "")
        match mti[1], mti[2]:
            case "8", _:
                return APPROVED
            case "4", _:
                original_stan = fields.get(90, "")[4:10]
                undone = self._ledger.undo(line.key, original_stan)
                return NOT_FOUND if undone is Undone.NOTHING else APPROVED
            case _, "2":  # done already by a stand-in: to be booked, once
                if not self._ledger.posted(line.key):
                    self._post(fields, line, stan)
                return APPROVED
        if self._ledger.undone(line.key, stan):
            return DUPLICATE
        code = self._rules.code(_pan(fields), line.amount or 0)
        if not code:
            self._post(fields, line, stan)
        return code or APPROVED

    def _post(self, fields: Mapping[int, str], line: Line, stan: str) -> None:
        self._ledger.post(line.key, stan, account_token(_pan(fields)), line.amount or 0, fields.get(49, ""))

    def _wrong(self, mti: str, answer: Mapping[int, str]) -> bytes:
        """The same answer with an RRN, a STAN or both that nobody waits for."""
        changed = dict(answer)
        which = self._dice.choice(((37,), (11,), (37, 11)))
        if 37 in which:
            changed[37] = "WRONG" + answer.get(37, "")[5:].rjust(7, "0")
        if 11 in which:
            changed[11] = f"{(int(answer.get(11, '0')) + 500_000) % 10**6:06d}"
        return self._dialect.encode(mti, changed)


def _amount(fields: Mapping[int, str]) -> int | None:
    return int(fields[4]) if 4 in fields else None


def _pan(fields: Mapping[int, str]) -> str:
    return fields.get(2) or fields.get(35, "").replace("D", "=").partition("=")[0]
