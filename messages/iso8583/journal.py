"""What the journal says of an ISO 8583 request or advice: from its record and the content of its outcome, masked."""

from messages.facts import NUMBER_MAX, Facts, masked, text
from messages.iso8583.dialect import Iso8583
from messages.iso8583.money import holds_currency, money
from messages.iso8583.record import unpack
from messages.message import MessageError, Outcome


def facts(original: bytes, outcome: Outcome | None) -> Facts:
    """Both are records (record.py), each of the dialect that it names. Raises MessageError for an original that is none."""
    record = unpack(original)
    message = record.message()
    request = message.fields
    decided = _decided(outcome)
    answer = decided.fields if decided is not None else {}
    currency, amount = _money(message)
    approved = _money(decided)[1] if decided is not None else None
    return Facts(
        type=record.mti,
        processing_code=text(request.get(3, "")),
        pan=masked(request.get(2, "") or record.pan),
        amount=amount,
        approved_amount=approved if approved != amount else None,
        currency=text(currency),
        stan=text(request.get(11, "")),
        rrn=text(request.get(37, "") or answer.get(37, "")),
        transmission=text(request.get(7, "")),
        local_time=text(request.get(13, "") + request.get(12, ""))
        if record.mti[0] == "0"
        else text(request.get(12, "")),
        terminal=text(request.get(41, "")),
        merchant=text(request.get(42, "")),
        acquirer=text(request.get(32, "")),
        approval_code=text(answer.get(38, "")),
    )


def _money(message: Iso8583) -> tuple[str, int | None]:
    currency, amount = money(message.fields, holds_currency(message.dialect))
    return currency, min(amount, NUMBER_MAX) if amount is not None else None


def _decided(outcome: Outcome | None) -> Iso8583 | None:
    """The answer's fields; an outcome without content, or of a dialect that is no longer here, has none."""
    if outcome is None or not outcome.content:
        return None
    try:
        return unpack(outcome.content).message()
    except MessageError:
        return None
