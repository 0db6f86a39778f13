"""The presence rules of a link: which fields its requests and advices must have, and which they must not.

ISO 8583 gives each message mandatory and conditional fields (1987 table 5, 1993 table 7B); what a network makes of them
is its own. A violation is no unreadable message: it is decoded, and declined as a format error (30, 904) that names the
field. A field that is empty or only blanks is missing.
"""

import re
from collections.abc import Callable

import msgspec

from messages.iso8583.dialect import Dialect
from messages.iso8583.mti import unmarked


class Test(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a conditional rule holds: the field has one of these values, or is there at all, or is absent."""

    __test__ = False  # not pytest's

    field: str
    values: tuple[str, ...] = ()  # x is any character: "05x"
    absent: bool = False


class Conditional(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds under a test."""

    when: Test
    mandatory: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()


class PresenceRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[link.iso8583.presence]]`. Fields are numbers ("41")."""

    mti: tuple[str, ...] = ()  # prefixes ("02"), without the mark of a repeat; none: any request or advice
    processing_codes: tuple[str, ...] = ()  # prefixes of DE3
    mandatory: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    conditional: tuple[Conditional, ...] = ()


Holds = Callable[[dict[int, str]], object]


class _Needs(msgspec.Struct, frozen=True):
    holds: Holds | None  # None: always
    mandatory: tuple[int, ...]
    forbidden: frozenset[int]


class _Row(msgspec.Struct, frozen=True):
    mti: tuple[str, ...]
    codes: tuple[str, ...]
    needs: tuple[_Needs, ...]


class Presence:
    """The rules of one link, compiled. Raises ValueError for one that cannot work."""

    def __init__(self, rules: tuple[PresenceRule, ...], dialect: Dialect) -> None:
        self._dialect = dialect
        self._rows = tuple(self._row(rule) for rule in rules)

    def flaw(self, mti: str, fields: dict[int, str]) -> str:
        """What is wrong with a request or advice: "DE41 missing", "DE52 not allowed"; "" when it is as it must be.

        mti: without the mark of a repeat, so that a first-seen 0201 is held to what a 0200 is.
        """
        code = fields.get(3, "")
        for row in self._rows:
            if not mti.startswith(row.mti) or not code.startswith(row.codes):
                continue
            for needs in row.needs:
                if needs.holds is not None and not needs.holds(fields):
                    continue
                for number in needs.mandatory:
                    value = fields.get(number)
                    if not value or value.isspace():
                        return f"DE{number} missing"
                if not needs.forbidden.isdisjoint(fields):
                    return f"DE{min(needs.forbidden & fields.keys())} not allowed"
        return ""

    def _row(self, rule: PresenceRule) -> _Row:
        if not all(text.isdecimal() for text in (*rule.mti, *rule.processing_codes)):
            raise ValueError("presence rule: mti and processing_codes are leading digits")
        if any(len(mti) > 2 and mti[2] in "13579" for mti in rule.mti):
            raise ValueError("presence rule: only requests and advices are held to one, not answers")
        needs = [self._needs(None, rule.mandatory, rule.forbidden)]
        for part in rule.conditional:
            if not (part.mandatory or part.forbidden):
                raise ValueError("presence rule: a condition without mandatory or forbidden fields")
            needs.append(self._needs(self._holds(part.when), part.mandatory, part.forbidden))
        if len(needs) == 1 and not (rule.mandatory or rule.forbidden):
            raise ValueError("presence rule: give mandatory, forbidden or conditional fields")
        mtis = tuple(unmarked(mti) if len(mti) == 4 else mti for mti in rule.mti)
        return _Row(mtis or ("",), rule.processing_codes or ("",), tuple(needs))

    def _needs(self, holds: Holds | None, mandatory: tuple[str, ...], forbidden: tuple[str, ...]) -> _Needs:
        must, must_not = self._numbers(mandatory), self._numbers(forbidden)
        if {*must} & {*must_not}:
            raise ValueError("presence rule: a field is both mandatory and forbidden")
        return _Needs(holds, must, frozenset(must_not))

    def _holds(self, test: Test) -> Holds:
        (number,) = self._numbers((test.field,))
        if test.absent and test.values:
            raise ValueError("presence rule: a condition has either values or absent")
        if test.absent:
            return lambda fields: number not in fields
        if not test.values:
            return lambda fields: number in fields
        match = re.compile("|".join(re.escape(value).replace("x", ".") for value in test.values), re.DOTALL).fullmatch
        return lambda fields: match(fields.get(number, "").rstrip())

    def _numbers(self, names: tuple[str, ...]) -> tuple[int, ...]:
        for name in names:
            if not (name.isdecimal() and name.isascii()) or int(name) not in self._dialect.fields:
                raise ValueError(f'presence rule: {name!r} is no field of {self._dialect.name}: write "41"')
        return tuple(sorted({int(name) for name in names}))


def place_of_error(name: str, dialect: Dialect) -> int:
    """The field that holds the number of a flawed one, 0 for none: DE44 on many networks (Mastercard: three digits).

    Raises ValueError where the dialect has none, or it cannot hold three digits as they are.
    """
    if not name:
        return 0
    field = dialect.fields.get(int(name)) if name.isdecimal() and name.isascii() else None
    try:
        if field is None or field.notation.fit("128").strip() != "128":
            raise ValueError("no such field")
    except ValueError as error:
        raise ValueError(f"format_error_field {name!r} holds no field number in {dialect.name}: {error}") from None
    return int(name)


def error_of(flaw: str) -> str:
    """The number of the flawed field as three digits."""
    return flaw.partition(" ")[0].removeprefix("DE").zfill(3)
