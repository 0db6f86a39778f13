"""The advices that the switch itself makes for a link as the target: reversals, and what stand-in decided."""

import time
from collections.abc import Mapping

from messages.iso8583.dialect import Dialect, Iso8583
from messages.iso8583.mti import advice_mti, is_reversal, kind_of, unmarked
from messages.iso8583.options import Iso8583Options, fields_by_cause
from messages.iso8583.profiles import Profiles
from messages.iso8583.record import Record, unpack
from messages.iso8583.references import Reference, original_data, original_data_parts, read_reference, reference_of
from messages.iso8583.rules import RULES
from messages.message import Cause, Kind, MessageError, Trait

_DATE = 15
_OUTCOME = (38, 39)  # approval code, response code
# what a request must be for the switch to undo it
_UNDONE = {
    Cause.TIMEOUT: Trait.TIMEOUT_REVERSAL,
    Cause.UNDELIVERABLE: Trait.MONEY,
    Cause.PARTIAL: Trait.MONEY,
    Cause.UNAVAILABLE: Trait.MONEY,
}

Sent = tuple[str, dict[int, str]]  # MTI and fields of a message to send


class Advices:
    """Of one link, as the target. Raises ValueError for options that make no sense."""

    def __init__(self, dialect: Dialect, options: Iso8583Options, profiles: Profiles) -> None:
        self._dialect = dialect
        self._rules = rules = RULES[dialect.version]
        self._profiles = profiles
        self.reversal_mti = options.reversal_mti or rules.reversal_mti
        self._form = options.reversal_mti  # of forwarded reversals
        self._keep_stan = options.reversal_stan == "original"
        self.reversal_fields = fields_by_cause(rules.reversal_fields, options.reversal_fields)
        self.stand_in_fields = fields_by_cause(rules.stand_in_fields, options.stand_in_fields)
        # a network without it, or with one of its own making, knows originals by other fields
        self._original_data = rules.original_data if original_data_parts(rules.original_data, dialect) else 0
        self._stan_digits = dialect.fields[11].notation.length

    def trace(self, stan: int) -> str:
        """DE11 of a message under this STAN."""
        return f"{stan:0{self._stan_digits}d}"

    # --- what passes through

    def forwarded_mti(self, mti: str) -> str:
        """The MTI under which a message goes out: without the mark of a repeat, a reversal in the link's form."""
        return self._form if self._form and is_reversal(mti) else unmarked(mti)

    def forwarded(self, mti: str, stan: int, reference: bytes, date: str) -> dict[int, str]:
        """The fields that a forwarded request or advice has of its own here."""
        fields = {11: self.trace(stan)}
        if reference:
            original = read_reference(reference)
            fields |= self._naming(original)
            if is_reversal(mti):
                if self._keep_stan:
                    fields[11] = original.stan
                date = original.date or date
        if date:
            fields[_DATE] = self._date(date)
        return fields

    def _date(self, date: str) -> str:
        """DE15 in this dialect's width; a date with its century, or year, gives its last digits."""
        field = self._dialect.fields.get(_DATE)
        if field is None:
            raise MessageError("the dialect has no such field", f"DE{_DATE}")
        if len(date) < field.notation.length:
            raise MessageError("the business date is shorter than the field", f"DE{_DATE}")
        return date[-field.notation.length :]

    # --- what the switch makes

    def reversal(self, original: bytes, reference: bytes, stan: int, utc: float, cause: Cause) -> Sent | None:
        """The reversal of a request that was sent here as `reference`; None where its profile has none.

        Without a reference the request was sent as it came. ISO 8583:1987 clause 4.5, 1993 clause 4.6.
        """
        record = unpack(original)
        request = self._read(record)
        kind = kind_of(request.mti, self._dialect.version)
        code = request.fields.get(3, "")
        if kind is not Kind.REQUEST or not self._profiles.traits(request.mti[1], code, kind) & _UNDONE[cause]:
            return None
        sent = read_reference(reference or reference_of(unmarked(request.mti), request.fields))
        fields = self._kept(record, request, self._rules.reversed)
        fields[7] = utc_time(utc, "%m%d%H%M%S")
        fields[11] = sent.stan if self._keep_stan else self.trace(stan)
        fields |= {number: value for number, value in _as_sent(sent).items() if number in fields and value}
        if sent.date:
            fields[_DATE] = self._date(sent.date)
        fields |= self._naming(sent)
        return self.reversal_mti, {**fields, **self.reversal_fields[cause]}

    def stand_in(self, original: bytes, content: bytes, cause: Cause, stan: int, utc: float, date: str) -> Sent:
        """0120 or 0220 of a request that was approved in the target's place, with the outcome's codes."""
        record = unpack(original)
        request = self._read(record)
        if kind_of(request.mti, self._dialect.version) is not Kind.REQUEST:
            raise MessageError("only a request is decided by stand-in", "MTI", 0)
        decided = self._read(unpack(content)).fields
        fields = self._kept(record, request, self._rules.stand_in)
        fields[7] = utc_time(utc, "%m%d%H%M%S")
        fields[11] = self.trace(stan)
        fields |= {number: decided[number] for number in _OUTCOME if number in decided}
        if date:
            fields[_DATE] = self._date(date)
        return advice_mti(request.mti), {**fields, **self.stand_in_fields[cause]}

    def _naming(self, original: Reference) -> dict[int, str]:
        number = self._original_data
        return {number: original_data(original, number, self._dialect)} if number else {}

    def _read(self, record: Record) -> Iso8583:
        message = record.message()
        if message.dialect.version != self._dialect.version:
            source, here = message.dialect.version, self._dialect.version
            raise MessageError(f"ISO 8583:{source} is not translated to {here}", "MTI", 0)
        return message

    def _kept(self, record: Record, request: Iso8583, numbers: tuple[int, ...]) -> dict[int, str]:
        here = self._dialect.fields
        fields = {number: request.fields[number] for number in numbers if number in request.fields and number in here}
        if record.pan:
            fields[2] = record.pan
        return fields


def _as_sent(sent: Reference) -> Mapping[int, str]:
    """What the link's own rules may have set otherwise than the source."""
    return {12: sent.local_time, 32: sent.acquirer_id, 33: sent.forwarder_id, 37: sent.retrieval}


def utc_time(utc: float, form: str) -> str:
    """Date and time as strftime gives them, of seconds since the epoch."""
    return time.strftime(form, time.gmtime(utc))
