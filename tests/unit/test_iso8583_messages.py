"""A message of ISO 8583 that is built up and changed step by step is, at each step, what a plain dict says it is.

The model is the MTI and a dict of values; what an answer, a forward, a repeat or a reversal has is told from it by the words
of messages/README.md. Bitmap and sizes are read from the payload here, by code of our own.
"""

import re

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from iso8583_samples import purchase_mti, sample
from test_iso8583_any_bytes import alike, codec
from test_iso8583_dialect import values_of

from messages.facts import Facts
from messages.iso8583 import shipped_dialects
from messages.iso8583.bertlv import build
from messages.iso8583.field import Field
from messages.iso8583.mti import KINDS
from messages.iso8583.record import unpack
from messages.iso8583.rules import RULES
from messages.message import Cause, Kind, MessageError, Outcome, Reason

UTC = 1_780_000_000.0  # 2026-05-28 20:26:40
SENT_AT = "0528202640"
# what is never recorded (README); 34 and 49 are of 2003
SECRET = {"1987": {35, 36, 45, 52, 53, 64, 96, 128}, "1993": {35, 36, 45, 52, 53, 64, 96, 128}}
SECRET["2003"] = SECRET["1987"] | {34, 49}
CARD = (2, 35, 36, 45, 52, 53, 55)  # set by rules of their own, with contents that can be looked for
TRACK_ENDS = "28121019182736455"
# digits that the other fields, which shrink to zeros, do not have by chance
PANS = st.tuples(st.permutations("0123456789"), st.text("3579", min_size=4, max_size=8)).map(
    lambda parts: "4" + "".join((*parts[0], *parts[1]))
)
ASKS = (Kind.REQUEST, Kind.ADVICE)


def stored(field: Field, value: str) -> str:
    """The value as it comes back: short n have zeros on the left, characters blanks on the right."""
    notation = field.notation
    if not notation.indicator and notation.type == "n":
        return value.rjust(notation.length, "0")
    if not notation.indicator and notation.type not in ("b", "x+n", "z"):
        return value.ljust(notation.length)
    if notation.type == "z" and field.spec.encoding == "bcd":  # a nibble is one sign: D and = are the same separator
        return value.replace("D", "=")
    return value


def short_values(field: Field) -> st.SearchStrategy[str]:
    """Values that are, or may be filled up to be, ones of the field."""
    notation = field.notation
    if notation.indicator or notation.type in ("b", "x+n", "z"):
        return values_of(field)
    return st.tuples(values_of(field), st.integers(1, notation.length)).map(lambda pair: pair[0][: pair[1]])


def wrong_values(field: Field) -> st.SearchStrategy[str]:
    """Too long, or of another type; with letters that can be looked for in what is told."""
    notation = field.notation
    over = st.just("7" * (2 * notation.length + 2))
    if notation.type in ("n", "z", "x+n", "b"):
        return over | st.sampled_from(["QX7Q", "7Q", "٣QX", " QX"])
    return over | (st.just("QX\nQX") if notation.type != "ansb" else st.just("QXſ"))


class Messages(RuleBasedStateMachine):
    """One message in one link's codec."""

    @initialize(name=st.sampled_from(shipped_dialects()), whole=st.booleans())
    def begin(self, name: str, whole: bool) -> None:
        self.codec, self.dialect = codec(name), codec(name).dialect
        self.version = self.dialect.version
        self.secrets: set[str] = set()
        self.mti = purchase_mti(self.version)
        self.fields: dict[int, str] = {}
        if whole:
            self.fields = {number: value for number, value in sample(self.version).items() if number not in CARD}

    @property
    def kind(self) -> Kind:
        return KINDS[self.version][self.mti]

    def _become(self, payload: bytes, mti: str, fields: dict[int, str]) -> None:
        """The next steps are about this message, which must be what the model says of it."""
        found = self.dialect.decode(payload)
        assert (found.mti, found.fields) == (mti, dict(sorted(fields.items())))
        self.mti, self.fields = mti, fields

    def _payload(self) -> bytes:
        return self.dialect.encode(self.mti, self.fields)

    # --- changes

    @rule(data=st.data())
    def a_field_is_set(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from([each for each in self.dialect.fields if each not in CARD]), "field")
        field = self.dialect.fields[number]
        value = data.draw(short_values(field), "value")
        self.fields[number] = stored(field, value)
        if value != self.fields[number]:
            assert self.dialect.encode_field(number, value) == self.dialect.encode_field(number, self.fields[number])

    @precondition(lambda self: self.fields)
    @rule(data=st.data())
    def a_field_is_taken_out(self, data: st.DataObject) -> None:
        del self.fields[data.draw(st.sampled_from(sorted(self.fields)), "field")]

    @rule(pan=PANS, where=st.sets(st.sampled_from([2, 35, 36, 45]), min_size=1))
    def a_card_is_read(self, pan: str, where: set[int]) -> None:
        forms = {2: pan, 35: f"{pan}={TRACK_ENDS}"[:37], 36: f"01{pan}={TRACK_ENDS}", 45: f"B{pan}^DOE/J^{TRACK_ENDS}"}
        for number in where & self.dialect.fields.keys():
            self.fields[number] = forms[number]
        self.secrets |= {pan, TRACK_ENDS[:16]}

    @rule(block=st.permutations("0123456789ABCDEF"))
    def a_pin_is_entered(self, block: list[str]) -> None:
        self.fields[52] = "".join(block)
        self.secrets.add(self.fields[52])

    @rule(pan=PANS, padded=st.booleans())
    def a_chip_is_read(self, pan: str, padded: bool) -> None:
        track = bytes.fromhex(f"{pan}D28121010".ljust(38, "F"))
        chip = [("57", track), ("9F26", b"cryptogr"), ("70", build([("5F20", b"DOE/J"), ("82", b"xx")]))]
        self.fields[55] = (bytes(padded) + build(chip)).hex().upper()
        self.secrets.add(pan)

    @rule(data=st.data())
    def the_class_or_function_changes(self, data: st.DataObject) -> None:
        self.mti = data.draw(st.sampled_from(sorted(KINDS[self.version])), "MTI")

    @rule(data=st.data())
    def a_value_that_does_not_fit_is_refused_without_it(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.dialect.fields)), "field")
        value = data.draw(wrong_values(self.dialect.fields[number]), "value")
        told = []
        for write in (
            lambda: self.dialect.encode_field(number, value),
            lambda: self.dialect.encode(self.mti, {**self.fields, number: value}),
        ):
            try:
                write()
            except MessageError as error:
                told.append(f"{error} {error!r} {None if error.__suppress_context__ else error.__context__!r}")
                assert error.field == f"DE{number}"
        assert len(told) == 2, f"DE{number} takes {value!r}"
        assert not [each for each in told if "QX" in each or "777" in each]

    # --- what links do with it

    @rule(data=st.data())
    def it_is_brought_into_another_dialect(self, data: st.DataObject) -> None:
        other = codec(data.draw(st.sampled_from(alike(self.dialect.name)), "dialect"))
        value = self.fields.get(49, "")
        holds = not value or other.dialect.fields[49].notation.type != "n" or value.isdecimal()
        body = self.dialect.decode(self._payload())
        try:
            payload = other.dialect.encode(body.mti, body.fields)
        except MessageError as error:
            assert error.field in ("DE49", "DE50", "DE51"), "a value of one dialect that another one does not have"
            assert not holds or any(not self.fields.get(each, "0").isdecimal() for each in (50, 51))
            return
        assert holds
        fields = {number: stored(other.dialect.fields[number], each) for number, each in self.fields.items()}
        self.codec, self.dialect = other, other.dialect
        self._become(payload, self.mti, fields)

    @precondition(lambda self: self.kind in ASKS)
    @rule(stan=st.integers(1, 999_999), dated=st.booleans())
    def it_is_forwarded(self, stan: int, dated: bool) -> None:
        date = "20260528" if dated else ""
        sent = self.codec.forward(self.codec.decode(self._payload()), stan, self.codec, date=date)
        kept = self._of_an_advice() if self.kind is Kind.ADVICE else dict(self.fields)
        kept[11] = self._trace(stan)
        if date:
            kept[15] = date[-self.dialect.fields[15].notation.length :]
        before = self.kind
        self._become(sent.payload, self._without_mark(), kept)
        assert self.kind is before and self.codec.decode(sent.payload).match_key == sent.match_key

    @precondition(lambda self: self.kind in ASKS)
    @rule()
    def it_is_sent_again(self) -> None:
        payload = self._payload()
        again = self.codec.repeat(payload)
        marked = self.mti[:3] + str(int(self.mti[3]) | 1)
        first, second = self.codec.decode(payload), self.codec.decode(again)
        assert second.repeat and (first.duplicate_key, first.digest) == (second.duplicate_key, second.digest)
        self._become(again, marked, dict(self.fields))

    @precondition(lambda self: self.kind in ASKS)
    @rule(how=st.sampled_from(["approve", "accept", *Reason]), stan=st.integers(1, 999_999))
    def it_is_answered(self, how: str, stan: int) -> None:
        message = self.codec.decode(self._payload())
        original = self.codec.original(message)
        if how == "approve":
            outcome = self.codec.approve(original, stan)
        else:
            outcome = self.codec.accept(original) if how == "accept" else self.codec.refuse(original, Reason(how))
        self._nothing_secret(original, outcome)
        rules = RULES[self.version]
        recorded = self.fields.keys() - SECRET[self.version] - {55}
        fields = {number: self.fields[number] for number in (*rules.identifying, *rules.echoed) if number in recorded}
        fields[39] = outcome.code
        if how == "approve":
            fields[38] = f"{stan:06d}"
        mti = self._without_mark()
        self._become(self.codec.answer(original, outcome), mti[:2] + str(int(mti[2]) + 1) + mti[3], fields)
        answer = self.codec.decode(self._payload())
        assert answer.outcome is not None and answer.match_key == message.match_key
        assert (answer.outcome.decision, answer.outcome.code) == (outcome.decision, outcome.code)

    @precondition(lambda self: self.kind is Kind.REQUEST)
    @rule(sent_as=st.integers(1, 999_999), stan=st.integers(1, 999_999), cause=st.sampled_from(Cause))
    def it_is_reversed(self, sent_as: int, stan: int, cause: Cause) -> None:
        message = self.codec.decode(self._payload())
        sent = self.codec.forward(message, sent_as, self.codec)
        reversal = self.codec.reversal(self.codec.original(message), sent.reference, stan, UTC, cause)
        if reversal is None:
            assert self.mti[1] not in "12" or self.fields.get(3), "a purchase is always undone"
            return
        rules = RULES[self.version]
        fields = {number: self.fields[number] for number in rules.reversed if number in self.fields}
        account = self._account()
        if account:
            fields[2] = account
        fields |= {7: SENT_AT, 11: self._trace(stan), rules.original_data: self._names(sent_as)}
        if 15 in self.fields:
            fields[15] = self.fields[15]
        fields |= rules.reversal_fields.get(cause, {})
        self._become(reversal.payload, rules.reversal_mti, fields)
        undoing = self.codec.decode(reversal.payload)
        assert undoing.kind is Kind.ADVICE and undoing.match_key == reversal.match_key

    # --- the model's own words

    def _without_mark(self) -> str:
        return self.mti[:3] + str(int(self.mti[3]) & ~1)

    def _trace(self, stan: int) -> str:
        return str(stan).rjust(12 if self.version == "2003" else 6, "0")

    def _account(self) -> str:
        """The PAN of DE2, else of tracks 2, 1, 3."""
        tracks = {35: "([0-9]+)", 45: "B([0-9]+)", 36: "..([0-9]+)"}
        found = [re.match(form, self.fields[number])[1] for number, form in tracks.items() if number in self.fields]
        return self.fields.get(2, found[0] if found else "")

    def _names(self, stan: int) -> str:
        """DE90 of 1987, DE56 later, of the present message as it was sent under this STAN."""
        get = self.fields.get
        head = self._without_mark() + self._trace(stan)
        if self.version == "1987":
            return head + get(7, "0" * 10) + get(32, "").rjust(11, "0") + get(33, "").rjust(11, "0")
        acquirer = get(32, "")
        time = get(12, "0" * self.dialect.fields[12].notation.length)
        return head + time + f"{len(acquirer):02d}{acquirer}"

    def _of_an_advice(self) -> dict[int, str]:
        """What is kept of one until it is delivered: no tracks, PIN block and MAC, chip data of the issuer's only."""
        kept = {number: value for number, value in self.fields.items() if number not in SECRET[self.version]}
        if 55 in kept:
            kept[55] = build([("9F26", b"cryptogr"), ("70", build([("82", b"xx")]))]).hex().upper()
        if self._account():
            kept[2] = self._account()
        return kept

    # --- what holds after each step

    @invariant()
    def what_is_written_is_read_back(self) -> None:
        if not hasattr(self, "mti"):
            return
        payload = self._payload()
        message = self.dialect.decode(payload)
        assert (message.mti, message.fields) == (self.mti, dict(sorted(self.fields.items())))
        backwards = dict(sorted(self.fields.items(), reverse=True))
        assert self.dialect.encode(self.mti, backwards) == self._payload() == payload, "it is not always the same"
        assert self.dialect.assemble(self.mti, message.raw) == payload
        self._bitmap_is_the_fields(payload, message.raw)
        for number, part in message.raw.items():
            self._within_its_limits(self.dialect.fields[number], part)

    def _bitmap_is_the_fields(self, payload: bytes, raw: dict[int, bytes]) -> None:
        name = self.dialect.name
        at = 2 if name.endswith("-binary") else 4
        rest = payload[at:]
        if name.endswith("-ascii"):  # as hex digits
            signs = 32 if int(rest[:1], 16) & 8 else 16
            bits, size = bytes.fromhex(rest[:signs].decode()), signs
        else:
            size = 16 if rest[0] & 0x80 else 8
            bits = rest[:size]
        marked = {place + 1 for place in range(8 * len(bits)) if bits[place // 8] & (0x80 >> place % 8)}
        assert marked - {1} == self.fields.keys() and (1 in marked) == any(number > 64 for number in self.fields)
        assert rest[size:] == b"".join(raw[number] for number in sorted(self.fields)), "bytes of no field"

    def _within_its_limits(self, field: Field, part: bytes) -> None:
        """In bytes, by the notation: packed digits take half of one, an indicator its digits or half of them."""
        notation, packed = field.notation, self.dialect.name.endswith("-binary")
        digits = notation.type in ("n", "z")
        most = (notation.length + 1) // 2 if packed and digits else notation.length
        if notation.type == "x+n" and packed:
            most = 1 + notation.length // 2
        if notation.type == "b" and self.dialect.name.endswith("-ascii") and field.spec.encoding == "hex":
            most *= 2
        indicator = (notation.indicator + 1) // 2 if packed else notation.indicator
        assert len(part) <= indicator + most and (notation.indicator or len(part) == most), f"DE{field.number}"

    @invariant()
    def what_is_shown_and_kept_holds_no_card(self) -> None:
        if not hasattr(self, "mti"):
            return
        message = self.codec.decode(self._payload())
        assert message.kind is self.kind and message.repeat == (int(self.mti[3]) % 2 == 1)
        shown = f"{message!r} {message.body!r} {message.attributes!r} {message.outcome!r} {message.summary!r}"
        shown += f"{message.summary.identity!r} {message.summary.refers!r}"
        shown += f"{message.match_key!r} {message.duplicate_key!r}"
        assert not [secret for secret in self.secrets if secret in shown]
        assert len(message.attributes.bin) <= 11
        if self.kind in ASKS:
            self._nothing_secret(self.codec.original(message), message.outcome)

    def _nothing_secret(self, original: bytes, outcome: Outcome | None) -> None:
        """Neither in the journal's facts, nor, but for the PAN, in what is recorded."""
        record = unpack(original)
        assert not record.raw.keys() & (SECRET[self.version] | {55})
        assert record.pan in ("", self._account())
        facts = self.codec.facts(original, outcome)
        told = "|".join(str(getattr(facts, name)) for name in Facts.__struct_fields__)
        assert not [secret for secret in self.secrets if secret in told + repr(record) + repr(facts) + repr(outcome)]
        account = self._account()
        if len(account) >= 13:
            assert facts.pan == account[:6] + "*" * (len(account) - 10) + account[-4:]
        amount = self.fields.get(4)
        if amount is not None:
            units = int(amount[4:] if self.version == "2003" else amount)
            assert facts.amount == units, "not the amount in minor units"
        assert facts.type == self.mti and facts.stan == self.fields.get(11, "")


TestMessages = Messages.TestCase
TestMessages.settings = settings(
    max_examples=120, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
