"""What a card transaction is to the switch: a table by message class and processing code (DE3, first two digits).

The codes are the standard's (1987 annex A, 1993 annex A), with those that networks agree on. A link adds codes and
replaces traits by its option `profiles`.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from messages.message import Kind, Trait

_MONEY = Trait.MONEY | Trait.TIMEOUT_REVERSAL
_STAND_IN = _MONEY | Trait.STAND_IN

# a request's traits; an advice keeps MONEY of them alone: what it tells has been decided
TRAITS: dict[str, Trait] = {
    "purchase": _STAND_IN,
    "cash": _STAND_IN,
    "preauth": _STAND_IN,
    "cashback": _STAND_IN,
    "quasi_cash": _STAND_IN,
    "refund": _STAND_IN,
    "adjustment": _MONEY,
    "deposit": _MONEY,
    "original_credit": _MONEY,
    "transfer": _MONEY,
    "payment": _MONEY,
    "other": _MONEY,  # an unknown code may move money
    "completion": Trait.MONEY,
    "balance": Trait(0),
    "inquiry": Trait(0),
    "verification": Trait(0),
    "pin_change": Trait(0),
    "file_action": Trait(0),
    "reversal": Trait.REVERSAL,
    "chargeback": Trait(0),
    "reconciliation": Trait(0),
    "administrative": Trait(0),
    "fee": Trait.MONEY,
}
# processing code -> profile, of classes 1 and 2
CODES = {
    "00": "purchase",
    "01": "cash",
    "02": "adjustment",
    "03": "verification",  # cheque guarantee
    "04": "verification",  # cheque verification
    "09": "cashback",
    "11": "quasi_cash",
    "17": "cash",  # cash disbursement at a counter
    "20": "refund",
    "21": "deposit",
    "22": "adjustment",
    "23": "deposit",
    "24": "deposit",
    "26": "original_credit",
    "28": "original_credit",
    "30": "balance",
    "31": "balance",
    **{f"{code}": "inquiry" for code in range(32, 40)},
    "33": "verification",
    "38": "verification",
    "40": "transfer",
    **{f"{code}": "transfer" for code in range(41, 50)},
    **{f"{code}": "payment" for code in range(50, 60)},
    **{f"{code}": "pin_change" for code in range(90, 98)},
}
# class + processing code, where class 1 differs
CLASS_CODES = {"100": "preauth", "109": "preauth", "111": "preauth"}
# classes without processing codes
CLASSES = {
    "3": "file_action",
    "4": "reversal",
    "5": "reconciliation",
    "6": "administrative",
    "7": "fee",
}

TraitName = Literal["money", "timeout_reversal", "stand_in"]


class ProfileOption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link's own view of a profile, which may be a new one."""

    codes: tuple[str, ...] = ()  # processing codes that are of it: "92", or with the message class before it: "192"
    traits: tuple[TraitName, ...] | None = None  # instead of the default's
    source_reversal: bool = True  # whether those who ask for it may reverse it; the switch itself does by the traits


class Profile(msgspec.Struct, frozen=True):
    """One row, compiled."""

    name: str
    request: Trait  # of a request
    advice: Trait  # of an advice


class Profiles:
    """A link's table. Raises ValueError for options that make no sense."""

    def __init__(self, options: Mapping[str, ProfileOption]) -> None:
        traits = dict(TRAITS)
        codes = {digit + code: name for digit in "12" for code, name in CODES.items()} | CLASS_CODES
        for name, option in options.items():
            if option.traits is not None:
                traits[name] = Trait(0)
                for trait in option.traits:
                    traits[name] |= Trait[trait.upper()]
            if name not in traits:
                raise ValueError(f"profiles: {name} is a new one and has no traits")
            for code in option.codes:
                if len(code) not in (2, 3) or not code.isalnum() or (len(code) == 3 and code[0] not in "12"):
                    raise ValueError(f'profiles: {name}: codes are like "92" or, of class 1 alone, "192"')
                codes.update({code: name} if len(code) == 3 else {digit + code: name for digit in "12"})
        # of what is asked for on this link, that its terminals may not reverse
        self.irreversible = frozenset(name for name, option in options.items() if not option.source_reversal)
        if unknown := self.irreversible - {*codes.values(), "other"}:
            raise ValueError(f"profiles: {min(unknown)}: no processing code of a reversal would name it")
        rows = {
            name: Profile(name, flags, flags & (Trait.MONEY | Trait.REVERSAL)) for name, flags in traits.items()
        }
        self._codes = {key: rows[name] for key, name in codes.items()}
        self._classes = {digit: rows[name] for digit, name in CLASSES.items()}
        self._other = rows["other"]
        self.completion = rows["completion"]
        self.chargeback = rows["chargeback"]

    def of(self, digit: str, processing_code: str) -> Profile:
        """The profile of a message of this class with this DE3, "" when it has none."""
        return self._codes.get(digit + processing_code[:2]) or self._classes.get(digit) or self._other

    def traits(self, digit: str, processing_code: str, kind: Kind) -> Trait:
        """What a request or advice of this class and DE3 is to this link."""
        profile = self.of(digit, processing_code)
        return profile.request if kind is Kind.REQUEST else profile.advice
