"""The options of a link's ISO 8583 side, as its configuration gives them, and their check."""

import re
from collections.abc import Container

import msgspec

from messages.iso8583.administrative import Administrative
from messages.iso8583.field_rules import FieldRule
from messages.iso8583.presence import PresenceRule
from messages.iso8583.rules import RULES
from messages.message import Reason


class Iso8583Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields are written as their number ("11"). What is empty or absent takes the version's default (rules.py)."""

    dialect: str = "iso87-ascii"  # shipped name, or path to a TOML or jPOS XML file
    match: tuple[str, ...] = ("7", "11", "37", "41")  # an answer belongs to the request with the same values
    duplicate: tuple[str, ...] = ("7", "11", "32", "41", "42")  # a repeat has the same values as what it repeats
    response_codes: dict[Reason, str] = {}
    approved: tuple[str, ...] = ()  # values of DE39 that approve; x is any digit
    sign_on: bool = True  # whether the switch signs on and off; it echoes in any case
    reversal_mti: str = ""
    network_fields: dict[str, str] = {}  # further fields of the switch's own network management requests
    field: tuple[FieldRule, ...] = ()  # how what goes out on this link is changed
    presence: tuple[PresenceRule, ...] = ()  # what a request or advice that comes in must have, and must not
    format_error_field: str = ""  # where the answer to one that breaks them has the field's number, as three digits
    administrative: Administrative = Administrative()  # what is said of an unreadable frame


def field_numbers(names: tuple[str, ...], what: str, known: Container[int]) -> tuple[int, ...]:
    """Those fields of a key that the dialect has. Raises ValueError when they cannot identify a message."""
    if not all(re.fullmatch("[1-9][0-9]{0,2}", name) for name in names):
        raise ValueError(f'{what}: fields are numbers like "11"')
    numbers = tuple(sorted({int(name) for name in names if int(name) in known}))
    if not set(numbers) - {11}:
        raise ValueError(f"{what}: no field but DE11, which is reused within a day, and so identifies no message")
    return numbers


def response_codes(options: Iso8583Options, version: str) -> dict[Reason, str]:
    """DE39 for each reason. Raises ValueError for a version without rules."""
    if version not in RULES:
        raise ValueError(f"no rules for ISO 8583:{version}: one of {', '.join(RULES)}")
    return {**RULES[version].response_codes, **options.response_codes}


def approved_pattern(options: Iso8583Options, version: str) -> re.Pattern[str]:
    """Matches a DE39 that approves."""
    codes = options.approved or RULES[version].approved
    return re.compile("|".join(re.escape(code).replace("x", "[0-9]") for code in codes))
