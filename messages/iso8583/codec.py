"""The codec of an ISO 8583 link: what its messages mean to the switch, and the messages the switch sends on it."""

from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType

from msgspec import structs

from messages.facts import Facts
from messages.iso8583 import journal, reconciliation
from messages.iso8583.administrative import Complaint
from messages.iso8583.advices import Advices, utc_time
from messages.iso8583.codes import LinkCodes
from messages.iso8583.dialect import Dialect, Iso8583
from messages.iso8583.field_rules import FieldRules
from messages.iso8583.keys import field_numbers, key_of
from messages.iso8583.loader import load_dialect
from messages.iso8583.mti import answer_mti, is_repeat, is_reversal, key_prefix, kind_of, unmarked
from messages.iso8583.options import Iso8583Options, network_codes
from messages.iso8583.presence import Presence, error_of, place_of_error
from messages.iso8583.profiles import Profiles
from messages.iso8583.record import (
    Record,
    account,
    advice_body,
    answer_record,
    pack,
    raw_without_secrets,
    request_record,
    unpack,
)
from messages.iso8583.references import read_reference, reference_of
from messages.iso8583.rules import RULES
from messages.iso8583.stamps import Moment, is_date
from messages.iso8583.summaries import Summaries
from messages.message import (
    Attributes,
    Cause,
    Codec,
    Decision,
    Kind,
    Message,
    MessageError,
    NetworkFunction,
    Outbound,
    Outcome,
    Reason,
    Reconciliation,
    Summary,
    Verdict,
)

_BIN_DIGITS = 11
_ASKS = (Kind.REQUEST, Kind.ADVICE)
_NO_SUMMARY = Summary()
_ANSWERS = (Kind.ANSWER, Kind.ADVICE_ANSWER)
_NETWORK = (Kind.NETWORK_REQUEST, Kind.NETWORK_ANSWER)
_SENT = (NetworkFunction.SIGN_ON, NetworkFunction.SIGN_OFF, NetworkFunction.ECHO)
_DATE = 15
_APPROVAL_CODE = 38
_NO_FIELDS: Mapping[int, str] = MappingProxyType({})
# a repeat may be sent anew at another time, with a fresh PIN block, security counter and MAC; where DE11 does not identify
# a request (`duplicate`), also under another STAN
_CHANGES_IN_REPEATS = frozenset((7, 11, 52, 53, 64, 128))


class Iso8583Codec:
    """See `messages.message.Codec` for what each method promises. Raises ValueError for options that make no sense."""

    rail = "iso8583"

    def __init__(self, options: Iso8583Options) -> None:
        self.options = options
        self.dialect = dialect = load_dialect(options.dialect)
        if 11 not in dialect.fields:
            raise ValueError(f"dialect {dialect.name} has no DE11")
        self.takes_partial = options.partial
        self.stan_digits = dialect.fields[11].notation.length
        self._match = field_numbers(options.match, "match", dialect.fields)
        self._network_match = field_numbers(options.network_match, "network_match", dialect.fields, stan_alone=True)
        self._duplicate = field_numbers(options.duplicate, "duplicate", dialect.fields)
        if dialect.version not in RULES:
            raise ValueError(f"no rules for ISO 8583:{dialect.version}: one of {', '.join(RULES)}")
        self._rules = rules = RULES[dialect.version]
        self._codes = LinkCodes(options, dialect.version)
        profiles = Profiles(options.profiles)
        self._summaries = Summaries(dialect, options, profiles, self._codes.approves)
        self._advices = Advices(dialect, options, profiles)
        self._trace = self._advices.trace
        self._network_functions = network_codes(options, rules.network_codes)
        self._network_fields = {int(name): value for name, value in options.network_fields.items()}
        self._same: dict[str, frozenset[int]] = {}
        self._changes = (
            FieldRules(options.field, dialect, self._match, rules.echoed, lambda code: self._codes.approves("2", code))
            if options.field
            else None
        )
        self._presence = Presence(options.presence, dialect) if options.presence else None
        self._complaint = Complaint(options.administrative, dialect)
        self._error_field = place_of_error(options.format_error_field, dialect)
        self._check_options()

    def decode(self, payload: bytes) -> Message:
        body = self.dialect.decode(payload)
        mti, fields = body.mti, body.fields
        kind = kind_of(mti, self.dialect.version)
        currency, amount = self._summaries.money(fields)
        attributes = Attributes(unmarked(mti), account(fields)[:_BIN_DIGITS], "", fields.get(3, ""), currency, amount)
        function = self._network_function(fields) if kind in _NETWORK else None
        date = flaw = ""
        if function is NetworkFunction.CUTOVER:
            date, flaw = _cutover(fields)
        elif self._presence is not None and kind in _ASKS:
            flaw = self._presence.flaw(unmarked(mti), fields)
        elif kind is Kind.ANSWER and not _code(fields):
            flaw = "DE39 missing"
        return Message(
            kind,
            attributes,
            self._match_key(mti, fields),
            key_of(key_prefix(mti), fields, self._duplicate),
            b"" if kind in _ANSWERS else self._digest(body),
            is_repeat(mti),
            body,
            self._outcome(body) if (kind in _ANSWERS and not flaw) or kind is Kind.NETWORK_ANSWER else None,
            function,
            self._summaries.of(mti, kind, fields, currency, amount) if kind in _ASKS else _NO_SUMMARY,
            date,
            flaw,
        )

    def original(self, message: Message) -> bytes:
        return pack(request_record(message.body))

    def facts(self, original: bytes, outcome: Outcome | None) -> Facts:
        return journal.facts(original, outcome)

    def reconciles(self, message: Message) -> tuple[str, str] | None:
        return reconciliation.period(message.body) if reconciliation.is_reconciliation(message.body.mti) else None

    def reconcile(self, message: Message, ours: Reconciliation) -> Outcome:
        return reconciliation.reconcile(self.dialect, message.body, ours)

    def forward(
        self,
        message: Message,
        stan: int,
        source: Codec,
        *,
        reference: bytes = b"",
        date: str = "",
        utc: float = 0.0,
    ) -> Outbound:
        body: Iso8583 = message.body if message.kind is Kind.REQUEST else advice_body(message.body)
        mti = self._advices.forwarded_mti(body.mti)
        raw = self._raw(body)
        fields = dict(body.fields)
        for number, value in self._advices.forwarded(mti, stan, reference, date).items():
            raw[number] = self.dialect.encode_field(number, value)
            fields[number] = value
        if self._changes is not None:
            sent = read_reference(reference) if reference and is_reversal(mti) else None
            self._changes.change(mti, fields, raw, Moment(utc, stan, date, sent))
        return Outbound(self.dialect.assemble(mti, raw), self._match_key(mti, fields), reference_of(mti, fields))

    def answer(self, original: bytes, outcome: Outcome, *, utc: float = 0.0, message: Message | None = None) -> bytes:
        request = unpack(original)
        decided = unpack(outcome.content)
        own = self._own(request)
        raw = self._own(decided, message.body if message is not None else None)
        raw = {**{number: own[number] for number in self._rules.echoed if number in own}, **raw}
        for number in self._rules.identifying:
            # the amount of a partial approval is the issuer's to say: the request's own would make it one in full
            if number in own and (number != 4 or outcome.code not in self._codes.partial):
                raw[number] = own[number]
        mti = answer_mti(request.mti)
        if self._changes is not None:
            self._changes.change_answer(mti, raw, Moment(utc))
        return self.dialect.assemble(mti, raw)

    def refuse(self, original: bytes, reason: Reason, flaw: str = "") -> Outcome:
        fields = {self._error_field: error_of(flaw)} if flaw and self._error_field else _NO_FIELDS
        return self._decide(original, Decision.DECLINED, self._codes.refused[reason], fields)

    def accept(self, original: bytes) -> Outcome:
        return self._decide(original, Decision.APPROVED, self._accepted(original))

    def approve(self, original: bytes, stan: int) -> Outcome:
        # six digits and never 000000, which is read as none
        fields = {_APPROVAL_CODE: f"{(stan - 1) % 999_999 + 1:06d}"} if _APPROVAL_CODE in self.dialect.fields else {}
        return self._decide(original, Decision.APPROVED, self._accepted(original), fields)

    def partial(self, outcome: Outcome) -> bool:
        return outcome.decision is Decision.APPROVED and outcome.code in self._codes.partial

    def account(self, original: bytes) -> bytes:
        record = unpack(original)
        pan = record.pan or account(record.message().fields)
        return pan.encode() and blake2b(pan.encode(), digest_size=16).digest()

    def difference(self, key: bytes, other: bytes) -> tuple[str, ...]:
        names = ["MTI", *[f"DE{number}" for number in (self._network_match if key[:1] == b"8" else self._match)]]
        pairs = zip(names, key.split(b"|"), other.split(b"|"), strict=False)
        return tuple(name for name, mine, theirs in pairs if mine != theirs)

    def verdict(self, outcome: Outcome) -> Verdict:
        return self._codes.verdict(outcome)

    def reversal(self, original: bytes, reference: bytes, stan: int, utc: float, cause: Cause) -> Outbound | None:
        sent = self._advices.reversal(original, reference, stan, utc, cause)
        if sent is None:
            return None
        named = read_reference(reference) if reference and self._changes is not None else None
        return self._outbound(*sent, Moment(utc, stan, original=named))

    def stand_in_advice(
        self, original: bytes, outcome: Outcome, cause: Cause, stan: int, utc: float, *, date: str = ""
    ) -> Outbound:
        sent = self._advices.stand_in(original, outcome.content, cause, stan, utc, date)
        return self._outbound(*sent, Moment(utc, stan, date))

    def repeat(self, payload: bytes) -> bytes:
        last = self.dialect.mti_length - 1
        return (
            payload[:last] + bytes((payload[last] | 1,)) + payload[last + 1 :]
        )  # its low bit in ASCII, EBCDIC and BCD

    def network_request(self, function: NetworkFunction, stan: int, utc: float) -> Outbound | None:
        code = next((code for code, meaning in self._network_functions.items() if meaning is function), "")
        if not code or function not in _SENT or not (self.options.sign_on or function is NetworkFunction.ECHO):
            return None
        fields = {number: utc_time(utc, form) for number, form in self._rules.network_times.items()}
        fields |= {11: self._trace(stan), **self._network_fields}
        fields[self._rules.network_field] = code
        return self._outbound(self._rules.network_mti, fields, Moment(utc, stan))

    def complaint(self, payload: bytes, error: MessageError, start: int, stan: int, utc: float) -> Outbound | None:
        if not self._complaint.answers(payload):
            return None
        moment = Moment(utc, stan)
        fields = {11: self._trace(stan), **self._complaint.fields(error, len(payload), start, moment)}
        return self._outbound(self._complaint.mti, fields, moment)

    def network_answer(self, message: Message) -> bytes:
        body: Iso8583 = message.body
        echoed = (*self._rules.identifying, *self._rules.echoed)
        raw = {number: body.raw[number] for number in echoed if number in body.raw}
        code = self._codes.refused[Reason.FORMAT] if message.flaw else self._codes.accepted(body.mti[1])
        raw[39] = self.dialect.encode_field(39, code)
        return self.dialect.assemble(answer_mti(body.mti), raw)

    def _check_options(self) -> None:
        """Every value of the configuration must be one that this dialect can send."""
        try:
            mti = self._advices.reversal_mti
            if kind_of(mti, self.dialect.version) is not Kind.ADVICE or not is_reversal(mti) or is_repeat(mti):
                raise MessageError("not a reversal's", "MTI", 0)
            for code in self._codes.sent():
                # n would be filled with a zero on the left: a refusal 68 would become the approval 068
                if len(code) != self.dialect.fields[39].notation.length:
                    raise MessageError("not as long as the field", "DE39")
                self.dialect.encode_field(39, code)
            options = self.options
            own = [*options.reversal_fields.values(), *options.stand_in_fields.values(), options.network_fields]
            functions = [{str(self._rules.network_field): code} for code in options.network_codes]
            for fields in (*own, *functions):
                for name, value in fields.items():
                    self.dialect.encode_field(int(name), value)
        except (MessageError, KeyError, IndexError) as error:
            raise ValueError(f"reversal_mti, a code or a field that the options give: {error}") from None

    def _accepted(self, original: bytes) -> str:
        return self._codes.accepted(unpack(original).mti[1])

    def _decide(
        self, original: bytes, decision: Decision, code: str, fields: Mapping[int, str] = _NO_FIELDS
    ) -> Outcome:
        """An outcome of the switch's own."""
        values = {**fields, 39: code}
        raw = {number: self.dialect.encode_field(number, value) for number, value in values.items()}
        return Outcome(decision, code, pack(Record(self.dialect.name, answer_mti(unpack(original).mti), raw)))

    def _outbound(self, mti: str, fields: dict[int, str], moment: Moment) -> Outbound:
        raw = {number: self.dialect.encode_field(number, value) for number, value in fields.items()}
        if self._changes is not None:
            self._changes.change(mti, fields, raw, moment)
        return Outbound(self.dialect.assemble(mti, raw), self._match_key(mti, fields), reference_of(mti, fields))

    def _match_key(self, mti: str, fields: Mapping[int, str]) -> bytes:
        return key_of(mti[1], fields, self._network_match if mti[1] == "8" else self._match)

    @staticmethod
    def _digest(body: Iso8583) -> bytes:
        """Over MTI, field numbers and encoded fields: each field tells its own length, so nothing else hashes alike.

        It is kept with the outcome, and who has the rest could find a CVV or PVV from it by trying all: of tracks and chip
        data only the PAN and what does not belong to the cardholder count.
        """
        kept = raw_without_secrets(body)
        for number in _CHANGES_IN_REPEATS:
            kept.pop(number, None)
        pan = "" if 2 in kept else account(body.fields)
        content = b"".join([unmarked(body.mti).encode(), bytes(kept), *kept.values(), pan.encode()])
        return blake2b(content, digest_size=16).digest()

    def _outcome(self, body: Iso8583) -> Outcome:
        # an advice, and a sign-on, is acknowledged by an answer without a code, too
        code = _code(body.fields)
        approves = self._codes.approves(body.mti[1], code)
        return Outcome(Decision.APPROVED if approves else Decision.DECLINED, code, pack(self._answered(body)))

    def _answered(self, body: Iso8583) -> Record:
        record = answer_record(body)
        return record if self._changes is None else structs.replace(record, raw=self._changes.theirs(record.raw))

    def _network_function(self, fields: dict[int, str]) -> NetworkFunction:
        return self._network_functions.get(fields.get(self._rules.network_field, ""), NetworkFunction.OTHER)

    def _own(self, record: Record, body: Iso8583 | None = None) -> dict[int, bytes]:
        """A record's encoded fields in this link's dialect. Decoded is what this one encodes in another way, and not even
        that where it is what `body` has.
        """
        if record.dialect == self.dialect.name:
            return record.raw
        same = self._same.get(record.dialect)
        if same is None:
            return self._raw(record.message())
        raw = record.raw
        other = {number: part for number, part in raw.items() if number not in same}
        if not other:
            return raw
        if body is not None and body.dialect.name == record.dialect and other.items() <= body.raw.items():
            values = body.fields
        else:
            values = structs.replace(record, raw=other).message().fields
        encode = self.dialect.encode_field
        return {
            number: part if number in same else encode(number, values[number])
            for number, part in raw.items()
            if number in same or number in values  # an empty bitmap has no value
        }

    def _raw(self, body: Iso8583) -> dict[int, bytes]:
        """A message's encoded fields in this link's dialect: as they are where both encode them alike."""
        source = body.dialect
        if source.name == self.dialect.name:
            return dict(body.raw)
        same = self._same.get(source.name)
        if same is None:
            same = self._same[source.name] = self._alike(source)
        encode = self.dialect.encode_field
        return {
            number: body.raw[number] if number in same else encode(number, value)
            for number, value in body.fields.items()
        }

    def _alike(self, source: Dialect) -> frozenset[int]:
        self._require_version(source)
        fields = source.fields
        return frozenset(
            number
            for number, field in self.dialect.fields.items()
            if number in fields and field.encodes_like(fields[number])
        )

    def _require_version(self, source: Dialect) -> None:
        if source.version != self.dialect.version:
            raise MessageError(f"ISO 8583:{source.version} is not translated to {self.dialect.version}", "MTI", 0)


def _code(fields: Mapping[int, str]) -> str:
    return fields.get(39, "").strip()


def _cutover(fields: Mapping[int, str]) -> tuple[str, str]:
    """The business date that a cutover announces in DE15 ("": none), and what is wrong with it."""
    date = fields.get(_DATE, "")
    if date and not is_date(date):
        return "", f"DE{_DATE}: there is no such date"
    return date, ""
