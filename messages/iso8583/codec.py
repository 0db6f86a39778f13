"""The codec of an ISO 8583 link: what its messages mean to the switch, and the messages the switch sends on it."""

import re
import time
from collections.abc import Mapping
from hashlib import blake2b

from messages.facts import Facts
from messages.iso8583 import journal, reconciliation
from messages.iso8583.dialect import Dialect, Iso8583
from messages.iso8583.loader import load_dialect
from messages.iso8583.mti import answer_mti, is_repeat, kind_of, unmarked
from messages.iso8583.options import Iso8583Options, approved_pattern, field_numbers, response_codes
from messages.iso8583.record import Record, account, answer_record, pack, request_record, unpack
from messages.iso8583.rules import RULES
from messages.message import (
    Attributes,
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
)

_BIN_DIGITS = 11
_NETWORK_KEY = (7, 11)  # network management carries no retrieval reference or terminal
_ANSWERS = (Kind.ANSWER, Kind.ADVICE_ANSWER)
_NETWORK = (Kind.NETWORK_REQUEST, Kind.NETWORK_ANSWER)
# a repeat may be sent anew at another time, with a fresh PIN block, security counter and MAC
_CHANGES_IN_REPEATS = frozenset((7, 52, 53, 64, 128))


class Iso8583Codec:
    """See `messages.message.Codec` for what each method promises. Raises ValueError for options that make no sense."""

    rail = "iso8583"

    def __init__(self, options: Iso8583Options) -> None:
        self.options = options
        self.dialect = dialect = load_dialect(options.dialect)
        if 11 not in dialect.fields:
            raise ValueError(f"dialect {dialect.name} has no DE11")
        self.stan_digits = dialect.fields[11].notation.length
        self._match = field_numbers(options.match, "match", dialect.fields)
        self._duplicate = field_numbers(options.duplicate, "duplicate", dialect.fields)
        self._codes = response_codes(options, dialect.version)
        self._rules = rules = RULES[dialect.version]
        self._approved: re.Pattern[str] = approved_pattern(options, dialect.version)
        self._reversal_mti = options.reversal_mti or rules.reversal_mti
        self._network_functions = {code: function for function, code in rules.network_codes.items()}
        self._network_fields = {int(name): value for name, value in options.network_fields.items()}
        self._same: dict[str, frozenset[int]] = {}
        self._check_options()

    def decode(self, payload: bytes) -> Message:
        body = self.dialect.decode(payload)
        mti, fields = body.mti, body.fields
        kind = kind_of(mti, self.dialect.version)
        amount = fields.get(4)
        attributes = Attributes(
            mti,
            account(fields)[:_BIN_DIGITS],
            "",
            fields.get(3, ""),
            fields.get(49, ""),
            int(amount) if amount is not None and amount.isdecimal() else None,
        )
        return Message(
            kind,
            attributes,
            self._match_key(mti, fields),
            _key(mti[1:3], fields, self._duplicate),
            self._digest(body),
            is_repeat(mti),
            body,
            self._outcome(body, kind) if kind in _ANSWERS or kind is Kind.NETWORK_ANSWER else None,
            self._network_function(fields) if kind in _NETWORK else None,
        )

    def original(self, message: Message) -> bytes:
        return pack(request_record(message.body))

    def facts(self, original: bytes, outcome: Outcome | None) -> Facts:
        return journal.facts(original, outcome)

    def reconciles(self, message: Message) -> tuple[str, str] | None:
        return reconciliation.period(message.body) if reconciliation.is_reconciliation(message.body.mti) else None

    def reconcile(self, message: Message, ours: Reconciliation) -> Outcome:
        return reconciliation.reconcile(self.dialect, message.body, ours)

    def forward(self, message: Message, stan: int, source: Codec) -> Outbound:
        body: Iso8583 = message.body
        mti = unmarked(body.mti)
        raw = self._raw(body)
        trace = self._trace(stan)
        raw[11] = self.dialect.encode_field(11, trace)
        return Outbound(self.dialect.assemble(mti, raw), self._match_key(mti, {**body.fields, 11: trace}))

    def answer(self, original: bytes, outcome: Outcome) -> bytes:
        request = unpack(original)
        decided = unpack(outcome.content)
        own = self._own(request)
        raw = self._own(decided)
        raw = {**{number: own[number] for number in self._rules.echoed if number in own}, **raw}
        for number in self._rules.identifying:
            if number in own and (number != 4 or number not in raw or outcome.code not in self._rules.partial):
                raw[number] = own[number]
        return self.dialect.assemble(answer_mti(request.mti), raw)

    def refuse(self, original: bytes, reason: Reason) -> Outcome:
        code = self._codes[reason]
        record = Record(self.dialect.name, answer_mti(unpack(original).mti), {39: self.dialect.encode_field(39, code)})
        return Outcome(Decision.DECLINED, code, pack(record))

    def reversal(self, original: bytes, outbound_stan: int, stan: int, utc: float) -> Outbound | None:
        record = unpack(original)
        if record.mti[1] not in "12" or record.mti[2] != "0":
            return None
        request = record.message()
        self._require_version(request.dialect)
        sent = request.fields
        here = self.dialect.fields
        fields = {number: sent[number] for number in self._rules.reversed if number in sent and number in here}
        if record.pan:
            fields[2] = record.pan
        fields[7] = _time(utc, "%m%d%H%M%S")
        fields[11] = self._trace(stan)
        fields.update(self._original_data(unmarked(request.mti), self._trace(outbound_stan), sent))
        return self._outbound(self._reversal_mti, fields)

    def repeat(self, payload: bytes) -> bytes:
        last = self.dialect.mti_length - 1
        return (
            payload[:last] + bytes((payload[last] | 1,)) + payload[last + 1 :]
        )  # its low bit in ASCII, EBCDIC and BCD

    def network_request(self, function: NetworkFunction, stan: int, utc: float) -> Outbound | None:
        code = self._rules.network_codes.get(function)
        if code is None or not (self.options.sign_on or function is NetworkFunction.ECHO):
            return None
        fields = {7: _time(utc, "%m%d%H%M%S"), 11: self._trace(stan), **self._network_fields}
        if self.dialect.version != "1987":
            fields[12] = _time(utc, "%y%m%d%H%M%S")
        fields[self._rules.network_field] = code
        return self._outbound(self._rules.network_mti, fields)

    def network_answer(self, message: Message) -> bytes:
        body: Iso8583 = message.body
        echoed = (*self._rules.identifying, *self._rules.echoed)
        raw = {number: body.raw[number] for number in echoed if number in body.raw}
        raw[39] = self.dialect.encode_field(39, self._rules.network_accepted)
        return self.dialect.assemble(answer_mti(body.mti), raw)

    def _check_options(self) -> None:
        """Every value of the configuration must be one that this dialect can send."""
        try:
            kind_of(self._reversal_mti, self.dialect.version)
            for code in self._codes.values():
                # n would be filled with a zero on the left: a refusal 68 would become the approval 068
                if len(code) != self.dialect.fields[39].notation.length:
                    raise MessageError("not as long as the field", "DE39")
                self.dialect.encode_field(39, code)
            for number, value in self._network_fields.items():
                self.dialect.encode_field(number, value)
        except (MessageError, KeyError, IndexError) as error:
            raise ValueError(f"reversal_mti, response_codes or network_fields: {error}") from None

    def _trace(self, stan: int) -> str:
        return f"{stan:0{self.stan_digits}d}"

    def _outbound(self, mti: str, fields: dict[int, str]) -> Outbound:
        raw = {number: self.dialect.encode_field(number, value) for number, value in fields.items()}
        return Outbound(self.dialect.assemble(mti, raw), self._match_key(mti, fields))

    def _match_key(self, mti: str, fields: Mapping[int, str]) -> bytes:
        return _key(mti[1], fields, _NETWORK_KEY if mti[1] == "8" else self._match)

    @staticmethod
    def _digest(body: Iso8583) -> bytes:
        """Over MTI, field numbers and encoded fields: each field tells its own length, so nothing else hashes alike."""
        raw = body.raw
        numbers = [number for number in raw if number not in _CHANGES_IN_REPEATS]
        content = b"".join([unmarked(body.mti).encode(), bytes(numbers), *[raw[number] for number in numbers]])
        return blake2b(content, digest_size=16).digest()

    def _outcome(self, body: Iso8583, kind: Kind) -> Outcome:
        code = body.fields.get(39, "").strip()
        if not code and kind is Kind.ANSWER:
            raise MessageError("an answer without a response code", "DE39")
        # an advice, and a sign-on, is acknowledged by an answer without a code, too
        accepted = kind is Kind.NETWORK_ANSWER and code == self._rules.network_accepted
        approves = not code or accepted or self._approved.fullmatch(code) is not None
        return Outcome(Decision.APPROVED if approves else Decision.DECLINED, code, pack(answer_record(body)))

    def _network_function(self, fields: dict[int, str]) -> NetworkFunction:
        return self._network_functions.get(fields.get(self._rules.network_field, ""), NetworkFunction.OTHER)

    def _original_data(self, mti: str, stan: str, sent: dict[int, str]) -> dict[int, str]:
        """What names the reversed request: DE90 of 1987; DE24, DE25 and DE56 of 1993."""
        if self.dialect.version == "1987":
            values = {"mti": mti, "stan": stan, "transmission": sent.get(7, "")}
            values |= {"acquirer_id": sent.get(32, ""), "forwarder_id": sent.get(33, "")}
            return {90: self.dialect.join_subfields(90, values)}
        values = {"mti": mti, "stan": stan, "local_time": sent.get(12, ""), "acquirer_id": sent.get(32, "")}
        # 400: full reversal, the transaction did not complete as approved; 4021: timed out waiting for the response
        return {24: "400", 25: "4021", 56: self.dialect.join_subfields(56, values)}

    def _own(self, record: Record) -> dict[int, bytes]:
        """A record's encoded fields in this link's dialect."""
        return record.raw if record.dialect == self.dialect.name else self._raw(record.message())

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


def _key(prefix: str, fields: Mapping[int, str], numbers: tuple[int, ...]) -> bytes:
    """Values without the blanks that fill fixed fields, since an answer may be filled otherwise than its request."""
    return "|".join([prefix, *[fields.get(number, "").strip() for number in numbers]]).encode()


def _time(utc: float, form: str) -> str:
    return time.strftime(form, time.gmtime(utc))
