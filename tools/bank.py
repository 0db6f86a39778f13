"""The mind of a simulated creditor bank: credits pacs.008, answers with pacs.002, undoes on a pacs.002 RJCT.

A pacs.008 that comes twice is credited twice (see tools/ledger.py). A negative confirmation is idempotent and gets no
answer; a credit whose negative confirmation came first is rejected.
"""

import itertools
import random
import time
from datetime import UTC, datetime

from tools.decisions import DeclineRules
from tools.host import Heard, Line
from tools.ledger import Ledger, Undone, account_token
from tools.payments import PaymentError, Status, Transfer, read_payment
from tools.status_report import STATUS_TYPE, status_report

SETTLED, REJECTED = "ACSC", "RJCT"
DUPLICATE = "DUPL"


class Bank:
    """An `Application` that speaks ISO 20022."""

    def __init__(self, ledger: Ledger, rules: DeclineRules, seed: int) -> None:
        self._ledger = ledger
        self._rules = rules
        self._dice = random.Random(seed)
        self._numbers = itertools.count(1)
        self._life = f"{time.time_ns() // 1_000_000 % 10**10:010d}"  # keeps its ids apart from an earlier life's

    def receive(self, payload: bytes) -> Heard:
        try:
            message = read_payment(payload)
        except PaymentError as error:
            return Heard(Line("undecodable", note=str(error)))
        if isinstance(message, Status):
            return Heard(Line(message.type, message.key, message.amount, message.code, self._confirm(message)))
        reason = self._credit(message)
        status = REJECTED if reason else SETTLED
        return Heard(
            Line(message.type, message.key, message.amount),
            self._report(message, status, reason, message.msg_id, message.end_to_end_id),
            Line(STATUS_TYPE, message.key, message.amount, f"{status}/{reason}" if reason else status),
            lambda: self._wrong(message, status, reason),
        )

    def _credit(self, transfer: Transfer) -> str:
        """Book the credit; returns the reason of a rejection, empty when credited."""
        if self._ledger.undone(transfer.key, transfer.msg_id):
            return DUPLICATE
        reason = self._rules.code(transfer.creditor_account, transfer.amount)
        if not reason:
            account = account_token(transfer.creditor_account)
            self._ledger.post(transfer.key, transfer.msg_id, account, transfer.amount, transfer.currency)
        return reason

    def _confirm(self, status: Status) -> str:
        """Book a negative confirmation; returns what became of it. A positive one changes nothing."""
        if status.status != REJECTED:
            return "confirmed"
        undone = self._ledger.undo(status.key, status.msg_id)
        return "nothing to undo" if undone is Undone.NOTHING else "undone"

    def _wrong(self, transfer: Transfer, status: str, reason: str) -> bytes:
        """The same answer for a message or end-to-end id that nobody waits for."""
        stranger = f"WRONG-{self._dice.randrange(10**12):012d}"
        if self._dice.random() < 0.5:
            return self._report(transfer, status, reason, stranger, transfer.end_to_end_id)
        return self._report(transfer, status, reason, transfer.msg_id, stranger)

    def _report(self, transfer: Transfer, status: str, reason: str, msg_id: str, end_to_end_id: str) -> bytes:
        """The pacs.002, in the request's envelope if it had one."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
        report_id = f"STS{self._life}{next(self._numbers):010d}"
        return status_report(transfer, status, reason, msg_id, end_to_end_id, report_id, now)
