"""The field rules of a link: how what goes out on it is changed after it was brought into the link's dialect.

A rule acts on one field of the messages that its conditions choose, by the action of `ACTIONS`. Rules act in the order
of the file, DE37 of the switch's own last (it is made from DE7 or DE12 as sent); conditions look at the message as it
came. Compiled once: what cannot work is refused there, and constants are encoded there.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from messages.iso8583.dialect import Dialect
from messages.iso8583.stamps import Moment, stamp
from messages.message import MessageError

When = Literal["request", "advice", "reversal", "network", "answer"]
WHENS: tuple[When, ...] = ("request", "advice", "reversal", "network", "answer")
FORWARDED: tuple[When, ...] = ("request", "advice", "reversal")

# DE4: the amount is what the switch counts and reverses. DE11: answers are matched by it.
_UNTOUCHABLE = frozenset((1, 4, 11, 65))
_ACCOUNT = 2  # routes, stand-in and reversals know it as it came; it may be left out where a track tells it
_RESPONSE_CODE = 39
_TIMES = frozenset((7, 12, 13, 15))
_SETTLEMENT_DATE = 15


class FieldRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[link.iso8583.field]]`. Fields are numbers ("32")."""

    field: str
    action: Literal["set", "add", "drop", "copy", "map"]
    when: tuple[When, ...] = FORWARDED
    mti: tuple[str, ...] = ()  # prefixes ("02"); none: any
    processing_codes: tuple[str, ...] = ()  # prefixes of DE3
    value: str = ""  # of set and add; a set without one is the switch's own (stamps.py)
    source: str = msgspec.field(name="from", default="")  # of copy: "37", or a subfield "3.transaction"
    values: dict[str, str] = {}  # of map: from value to value
    default: Literal["keep", "error"] = "keep"  # of map: for a value that is not in `values`
    if_absent: bool = False  # of set and copy: only where the message has no such field
    offset_minutes: int = 0  # of local time from UTC


Act = Callable[[dict[int, str], dict[int, bytes], Moment], None]


class _Step(msgspec.Struct, frozen=True):
    mti: tuple[str, ...]
    codes: tuple[str, ...]
    act: Act


def when_of(mti: str) -> When:
    """What the rules call a message of this MTI."""
    if mti[2] in "13579":
        return "answer"
    if mti[1] in "48":
        return "reversal" if mti[1] == "4" else "network"
    return "request" if mti[2] == "0" else "advice"


def _read(rule: FieldRule) -> set[int]:
    """The fields whose values the rule looks at."""
    read = {3} if rule.processing_codes else set[int]()
    if rule.action == "copy":
        read.add(int(rule.source.partition(".")[0]))
    return read | {int(rule.field)} if rule.action == "map" else read


class FieldRules:
    """The rules of one link, compiled. Raises ValueError for one that cannot work; its text names field and action.

    match: the fields by which answers are matched. approves: whether a value of DE39 approves.
    """

    def __init__(
        self,
        rules: tuple[FieldRule, ...],
        dialect: Dialect,
        match: tuple[int, ...],
        echoed: tuple[int, ...],
        approves: Callable[[str], object],
    ) -> None:
        self._dialect = dialect
        self._match = match
        self._approves = approves
        self._steps: dict[When, tuple[_Step, ...]] = dict.fromkeys(WHENS, ())
        last = [rule for rule in rules if rule.field == "37" and rule.action == "set" and not rule.value]
        for rule in [*(rule for rule in rules if rule not in last), *last]:
            try:
                self._compile(rule)
            except (ValueError, MessageError) as error:
                raise ValueError(f"field rule {rule.action} of field {rule.field!r}: {error}") from None
        self._read_in_answers = frozenset[int]().union(*[_read(rule) for rule in rules if "answer" in rule.when])
        changed = {int(rule.field) for rule in rules if {*rule.when} & {*FORWARDED} and rule.action != "drop"}
        self._ours = frozenset(changed & {*echoed}) - {_SETTLEMENT_DATE}

    def change(self, mti: str, fields: dict[int, str], raw: dict[int, bytes], moment: Moment) -> None:
        """Change a message that the switch sends: values and encoded fields alike. Raises MessageError."""
        code = fields.get(3, "")
        for step in self._steps[when_of(mti)]:
            if mti.startswith(step.mti) and code.startswith(step.codes):
                step.act(fields, raw, moment)

    def change_answer(self, mti: str, raw: dict[int, bytes], moment: Moment) -> None:
        """The same for an answer, which must not fail: what the dialect cannot hold stays as it is."""
        if not self._steps["answer"]:
            return
        read = {number: raw[number] for number in self._read_in_answers if number in raw}
        self.change(mti, self._dialect.decode(self._dialect.assemble(mti, read)).fields if read else {}, raw, moment)

    def theirs(self, raw: dict[int, bytes]) -> dict[int, bytes]:
        """An answer's fields without the echoes of what the rules put into its request: the source has its own."""
        return {number: part for number, part in raw.items() if number not in self._ours} if self._ours else raw

    def _compile(self, rule: FieldRule) -> None:
        number = self._number(rule.field)
        answers = "answer" in rule.when
        if not rule.when or not {*rule.when} <= {*WHENS}:
            raise ValueError(f"`when` is one or more of {', '.join(WHENS)}")
        if not all(text.isdecimal() for text in (*rule.mti, *rule.processing_codes)):
            raise ValueError("mti and processing_codes are leading digits")
        if number in _UNTOUCHABLE or (number == _ACCOUNT and rule.action != "drop"):
            raise ValueError("amount, account and STAN are not for rules to change")
        if number == _RESPONSE_CODE and rule.action != "map":
            raise ValueError("a response code can only be mapped")
        if rule.action == "drop" and number in self._match and not answers:
            raise ValueError("answers are matched by this field: take it out of `match` first")
        if answers and rule.default == "error":
            raise ValueError('an answer must reach its terminal: default = "error" is for what is forwarded')
        act = ACTIONS[rule.action](self, number, rule)
        step = _Step(rule.mti or ("",), rule.processing_codes or ("",), act)
        for when in {*rule.when}:
            self._steps[when] += (step,)

    def _number(self, name: str) -> int:
        if not (name.isdecimal() and name.isascii()) or int(name) not in self._dialect.fields:
            raise ValueError(f'{name!r} is no field of {self._dialect.name}: fields are numbers like "11"')
        return int(name)

    def _constant(self, number: int, rule: FieldRule, only_absent: bool) -> Act:
        part = self._dialect.encode_field(number, rule.value)
        value = self._dialect.fields[number].notation.fit(rule.value)

        def act(fields: dict[int, str], raw: dict[int, bytes], moment: Moment) -> None:
            if not (only_absent and number in raw):
                fields[number], raw[number] = value, part

        return act

    def _add(self, number: int, rule: FieldRule) -> Act:
        if not rule.value:
            raise ValueError("give a value")
        return self._constant(number, rule, True)

    def _set(self, number: int, rule: FieldRule) -> Act:
        if rule.value:
            return self._constant(number, rule, rule.if_absent)
        if "answer" in rule.when and number not in _TIMES:
            raise ValueError("an answer has its request's own: give a value")
        if not -1440 < rule.offset_minutes < 1440:
            raise ValueError("offset_minutes is within a day")
        make, encode, only_absent = (
            stamp(number, self._dialect, rule.offset_minutes),
            self._dialect.encode_field,
            rule.if_absent,
        )

        def act(fields: dict[int, str], raw: dict[int, bytes], moment: Moment) -> None:
            if moment.utc and not (only_absent and number in raw):
                value = make(fields, moment)
                fields[number], raw[number] = value, encode(number, value)

        return act

    def _drop(self, number: int, rule: FieldRule) -> Act:
        def act(fields: dict[int, str], raw: dict[int, bytes], moment: Moment) -> None:
            fields.pop(number, None)
            raw.pop(number, None)

        return act

    def _copy(self, number: int, rule: FieldRule) -> Act:
        name, _, part = rule.source.partition(".")
        origin = self._number(name)
        if origin in self._dialect.sensitive and number not in self._dialect.sensitive:
            raise ValueError(f"DE{origin} is sensitive and would get into records")
        if part and part not in [known for known, _ in self._dialect.fields[origin].spec.subfields]:
            raise ValueError(f"DE{origin} has no subfield {part!r}")
        read, only_absent, put = self._dialect.subfields, rule.if_absent, self._put(number, "answer" in rule.when)

        def act(fields: dict[int, str], raw: dict[int, bytes], moment: Moment) -> None:
            value = fields.get(origin)
            if value is None or (only_absent and number in raw):
                return
            if part:
                try:
                    value = read(origin, value)[part]
                except MessageError:  # not made of its subfields: nothing to copy
                    return
            put(fields, raw, value)

        return act

    def _map(self, number: int, rule: FieldRule) -> Act:
        if not rule.values:
            raise ValueError("give `values`, a table from value to value")
        if number in self._dialect.sensitive:
            raise ValueError("it is sensitive, and its values do not belong into a configuration")
        if number == _RESPONSE_CODE and any(
            bool(self._approves(a)) != bool(self._approves(b)) for a, b in rule.values.items()
        ):
            raise ValueError("an approval would become a decline, or a decline an approval")
        fit, encode = self._dialect.fields[number].notation.fit, self._dialect.encode_field
        table = {fit(old).rstrip(): (fit(new), encode(number, new)) for old, new in rule.values.items()}
        strict = rule.default == "error"

        def act(fields: dict[int, str], raw: dict[int, bytes], moment: Moment) -> None:
            value = fields.get(number)
            if value is None:
                return
            found = table.get(value.rstrip())
            if found is not None:
                fields[number], raw[number] = found
            elif strict:
                raise MessageError("a value that the link's field rules do not know", f"DE{number}")

        return act

    def _put(self, number: int, lenient: bool) -> Callable[[dict[int, str], dict[int, bytes], str], None]:
        encode = self._dialect.encode_field

        def put(fields: dict[int, str], raw: dict[int, bytes], value: str) -> None:
            try:
                raw[number] = encode(number, value)
            except MessageError:
                if not lenient:
                    raise
                return
            fields[number] = value

        return put


ACTIONS: dict[str, Callable[[FieldRules, int, FieldRule], Act]] = {
    "set": FieldRules._set,
    "add": FieldRules._add,
    "drop": FieldRules._drop,
    "copy": FieldRules._copy,
    "map": FieldRules._map,
}
