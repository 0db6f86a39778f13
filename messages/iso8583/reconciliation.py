"""Reconciliation (class 5): the figures that a message names, and the answer that compares them with ours.

DE74 to 81: numbers; DE86 to 89: amounts; DE97: the net of them, C or D and 16 digits. ISO 8583:1987 answers with the
settlement code DE66, 1993 with the action code. Who is out of balance is told our figures for those that it named.
"""

import msgspec

from messages.iso8583.dialect import Dialect, Iso8583
from messages.iso8583.mti import answer_mti
from messages.iso8583.record import Record, pack
from messages.message import Decision, MessageError, Outcome, Reconciliation

# data element -> the figure it holds; 82 and 83 differ between the versions and are not compared
FIELDS = {
    74: "credits", 75: "credit_reversals", 76: "debits", 77: "debit_reversals", 78: "transfers", 79: "transfer_reversals",
    80: "inquiries", 81: "authorizations", 86: "credit_amount", 87: "credit_reversal_amount", 88: "debit_amount",
    89: "debit_reversal_amount",
}  # fmt: skip
NET = 97
DATE, CURRENCY = 15, 50


class Code(msgspec.Struct, frozen=True):
    """What an answer says of the balance, by data element."""

    balanced: dict[int, str]
    unbalanced: dict[int, str]


CODES = {
    "1987": Code({39: "00", 66: "1"}, {39: "95", 66: "2"}),  # DE66: 1 in balance, 2 out of balance; 95 reconcile error
    "1993": Code({39: "500"}, {39: "501"}),  # reconciled in balance, out of balance
}


def is_reconciliation(mti: str) -> bool:
    """Whether it asks to reconcile: 0500, 0502, 0520, 0522 and their repeats."""
    return mti[1] == "5" and mti[2] in "02"


def period(message: Iso8583) -> tuple[str, str]:
    """The business date (MMDD) and currency that it is about; "" where it does not say."""
    return message.fields.get(DATE, "")[-4:], message.fields.get(CURRENCY, "")


def reconcile(dialect: Dialect, message: Iso8583, ours: Reconciliation) -> Outcome:
    """Compares what the message names. Raises MessageError for one that names no figure, or a version without codes."""
    codes = CODES.get(dialect.version)
    if codes is None:
        raise MessageError(f"no reconciliation in ISO 8583:{dialect.version}", "MTI", 0)
    told = {number: message.fields[number] for number in (*FIELDS, NET) if number in message.fields}
    if not told:
        raise MessageError("a reconciliation without figures", "DE74")
    figures = {number: _figure(dialect, number, ours) for number in told}
    balanced = figures == told
    values = dict(codes.balanced if balanced else {**codes.unbalanced, **figures})
    raw = {number: dialect.encode_field(number, values[number]) for number in sorted(values)}
    record = Record(dialect.name, answer_mti(message.mti), raw)
    decision = Decision.APPROVED if balanced else Decision.DECLINED
    return Outcome(decision, values[39], pack(record))


def _figure(dialect: Dialect, number: int, ours: Reconciliation) -> str:
    """Ours as the field's value."""
    length = dialect.fields[number].notation.length
    if number == NET:
        net = ours.credit_amount + ours.debit_reversal_amount - ours.debit_amount - ours.credit_reversal_amount
        return f"{'C' if net >= 0 else 'D'}{abs(net):0{length - 1}d}"
    return f"{getattr(ours, FIELDS[number]):0{length}d}"
