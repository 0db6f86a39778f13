"""What the journal says of an ISO 8583 request or advice: from its record and the content of its outcome, masked."""

from messages.facts import Facts, masked, number, text
from messages.iso8583.dialect import Iso8583
from messages.iso8583.record import unpack
from messages.message import MessageError, Outcome


def facts(original: bytes, outcome: Outcome | None) -> Facts:
    """Both are records (record.py), each of the dialect that it names. Raises MessageError for an original that is none."""
    record = unpack(original)
    request = record.message().fields
    decided = _decided(outcome)
    answer = decided.fields if decided is not None else {}
    amount, approved = number(request.get(4)), number(answer.get(4))
    return Facts(
        type=record.mti,
        processing_code=text(request.get(3, "")),
        pan=masked(request.get(2, "") or record.pan),
        amount=amount,
        approved_amount=approved if approved != amount else None,
        currency=text(request.get(49, "")),
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


def _decided(outcome: Outcome | None) -> Iso8583 | None:
    """The answer's fields; an outcome without content, or of a dialect that is no longer here, has none."""
    if outcome is None or not outcome.content:
        return None
    try:
        return unpack(outcome.content).message()
    except MessageError:
        return None
