"""What the engine keeps in sight of a request or advice: profile, traits, amount, and what its original is."""

from collections.abc import Callable, Mapping

from messages.iso8583.dialect import Dialect
from messages.iso8583.keys import INSTITUTIONS, field_numbers, key_of, unfilled
from messages.iso8583.money import holds_currency, money
from messages.iso8583.mti import is_confirmation, is_reversal
from messages.iso8583.options import Iso8583Options
from messages.iso8583.profiles import Profile, Profiles
from messages.iso8583.references import named_fields, original_data_parts
from messages.iso8583.rules import RULES
from messages.message import Kind, MessageError, Summary, Trait

_PIN = 52
_PIN_TRAIT = Trait.PIN.value
_PARTIAL_TRAIT = Trait.PARTIAL.value
_MONEY_TRAIT = Trait.MONEY.value
_REVERSALS = "4"  # message class
_FINANCIAL = "2"
_FUNCTION = 24  # 1993 and 2003
_PARTIAL_REVERSAL = "401"
# of a previously approved authorization: the amount is the same, or differs (1993 annex A.4)
_COMPLETIONS = ("201", "202")
_REPLACEMENT = 95  # of 1987: replacement amounts


class Summaries:
    """Of one link, as the source. Raises ValueError for options that make no sense."""

    def __init__(
        self, dialect: Dialect, options: Iso8583Options, profiles: Profiles, approves: Callable[[str, str], bool]
    ) -> None:
        """`approves`: whether a response code approves a message of a class."""
        self._approves = approves
        rules = RULES[dialect.version]
        self._dialect = dialect
        self._profiles = profiles
        self._1987 = dialect.version == "1987"
        self._original_data = rules.original_data if original_data_parts(rules.original_data, dialect) else 0
        self._numbers = self._identifying(options.original)
        self._others = frozenset(self._numbers) - {11}
        self._filled = bool(set(self._numbers) & set(INSTITUTIONS))
        self._with_currency = holds_currency(dialect)
        self._rows: dict[tuple[str, str], tuple[str, int, str, bool]] = {}

    def _identifying(self, names: tuple[str, ...]) -> tuple[int, ...]:
        fields = self._dialect.fields
        if names:
            return field_numbers(names, "original", fields)
        return tuple(int(name) for name in RULES[self._dialect.version].original if int(name) in fields)

    def money(self, fields: Mapping[int, str]) -> tuple[str, int | None]:
        """Currency as on the wire, and the amount in its minor units."""
        return money(fields, self._with_currency)

    def of(self, mti: str, kind: Kind, fields: Mapping[int, str], currency: str, amount: int | None) -> Summary:
        """The summary of a request or advice. A DE90 or DE56 that cannot be divided names nothing."""
        code = fields.get(3, "")[:2]
        row = self._rows.get((mti, code))
        if row is None:
            row = self._rows[mti, code] = self._row(mti, code, kind)
        name, traits, prefix, tied = row
        refers = self._refers(fields) if tied or self._original_data in fields else b""
        if kind is Kind.ADVICE:
            profile, more = self._of_advice(mti, fields, refers)
            if profile is not None:
                name, traits = profile.name, profile.advice.value
            if more & _PARTIAL_TRAIT:
                amount = self._remaining(fields, amount)
            if not more and 39 in fields and not self._approves(mti[1], fields[39].strip()):
                traits &= ~_MONEY_TRAIT  # it tells of a decline
            traits |= more
        if _PIN in fields:
            traits |= _PIN_TRAIT
        return Summary(name, traits, amount or 0, currency, self._key(prefix, fields), refers)

    def _row(self, mti: str, code: str, kind: Kind) -> tuple[str, int, str, bool]:
        """Profile, traits, what stands before its identity, and whether it keeps the STAN of what it is about.

        What keeps its original's STAN must not be taken for it: its identity begins with class and function.
        """
        reversal = is_reversal(mti)
        tied = reversal or is_confirmation(mti)
        profile = self._profiles.of(mti[1], code)
        if mti[1] == _REVERSALS and not reversal:
            profile = self._profiles.chargeback
        prefix = mti[1:3] if tied or mti[1] == _REVERSALS else ""
        return profile.name, (profile.request if kind is Kind.REQUEST else profile.advice).value, prefix, tied

    def _of_advice(self, mti: str, fields: Mapping[int, str], refers: bytes) -> tuple[Profile | None, int]:
        """The profile of what completes an earlier approval; whether a reversal leaves a part, and is not to be sent at all."""
        if is_reversal(mti):
            partial = _PARTIAL_TRAIT if self._partial(fields) else 0
            return None, partial | (Trait.FORBIDDEN.value if self._forbidden(fields) else 0)
        if mti[1] in "12" and (refers or (not self._1987 and fields.get(_FUNCTION) in _COMPLETIONS)):
            return self._profiles.completion, 0
        return None, 0

    def _forbidden(self, fields: Mapping[int, str]) -> bool:
        """By DE3, which a reversal has of its original, and the class in DE90 or DE56; financial where they give none."""
        if not self._profiles.irreversible:
            return False
        value, digit = fields.get(self._original_data), ""
        if value is not None:
            try:
                digit = self._dialect.subfields(self._original_data, value).get("mti", "")[1:2]
            except MessageError:
                digit = ""
        profile = self._profiles.of(digit if digit in ("1", "2") else _FINANCIAL, fields.get(3, ""))
        return profile.name in self._profiles.irreversible

    def _partial(self, fields: Mapping[int, str]) -> bool:
        if self._1987:
            return _replacement(fields) > 0
        return fields.get(_FUNCTION) == _PARTIAL_REVERSAL

    def _remaining(self, fields: Mapping[int, str], amount: int | None) -> int | None:
        """What a partial reversal leaves: DE95 in 1987, else DE4 (the amount before is in DE30)."""
        return _replacement(fields) if self._1987 else amount

    def _refers(self, fields: Mapping[int, str]) -> bytes:
        value = fields.get(self._original_data)
        if value is None:
            return self._key("", fields)
        try:
            named = named_fields(self._original_data, value, self._dialect)
        except MessageError:
            named = {}
        return self._key("", {**fields, **named})

    def _key(self, prefix: str, fields: Mapping[int, str]) -> bytes:
        """b"" for a message that has none of these fields but its STAN: another of the same day has it, too."""
        if self._others.isdisjoint(fields):
            return b""
        return key_of(prefix, unfilled(fields) if self._filled else fields, self._numbers)


def _replacement(fields: Mapping[int, str]) -> int:
    """The first amount of DE95 in 1987; 0 where there is none."""
    digits = fields.get(_REPLACEMENT, "")[:12]
    return int(digits) if digits.isascii() and digits.isdecimal() else 0
