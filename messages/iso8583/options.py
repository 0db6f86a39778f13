"""The options of a link's ISO 8583 side, as its configuration gives them, and their check."""

from typing import Literal

import msgspec

from messages.iso8583.administrative import Administrative
from messages.iso8583.field_rules import FieldRule
from messages.iso8583.presence import PresenceRule
from messages.iso8583.profiles import ProfileOption
from messages.message import Cause, NetworkFunction, Reason

FunctionName = Literal["sign_on", "sign_off", "echo", "key_change", "cutover", "other"]


class Iso8583Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields are written as their number ("11"). What is absent takes the version's default (rules.py, codes.py)."""

    dialect: str = "iso87-ascii"  # shipped name, or path to a TOML or jPOS XML file
    match: tuple[str, ...] = ("7", "11", "37", "41")  # an answer belongs to the request with the same values
    # a repeat has the same values as what it repeats; DE7 it may have of its own
    duplicate: tuple[str, ...] = ("11", "12", "13", "32", "37", "41", "42")
    original: tuple[str, ...] = ()  # a reversal or completion is about what has the same values, or those of DE90, DE56
    profiles: dict[str, ProfileOption] = {}  # by the profile's name
    partial: bool = True  # as a source: takes partial approvals
    # DE39
    response_codes: dict[Reason, str] = {}
    approved: tuple[str, ...] = ()  # of classes 1 and 2: values that approve; x is any digit
    accepted_codes: dict[str, str] = {}  # by message class: by which the switch accepts and approves
    partial_codes: tuple[str, ...] = ()  # approvals of a part of the amount
    advice_done_codes: tuple[str, ...] = ()  # an advice was taken, beside the approvals
    advice_retry_codes: tuple[str, ...] = ()
    advice_not_found_codes: tuple[str, ...] = ()
    # as a target
    reversal_mti: str = ""  # of the switch's own reversals; where it is given, of forwarded ones, too
    reversal_stan: Literal["new", "original"] = "new"  # original: a reversal has the STAN of what it reverses
    reversal_fields: dict[Cause, dict[str, str]] = {}  # further fields, or other values, by why it is sent
    stand_in_fields: dict[Cause, dict[str, str]] = {}  # likewise of stand-in advices
    # network management
    # as `match`, of network management, which has no retrieval reference or terminal; ["11"] where the other end has a DE7
    # of its own in its answers
    network_match: tuple[str, ...] = ("7", "11")
    sign_on: bool = True  # whether the switch signs on at each session; it never signs off, and echoes in any case
    network_fields: dict[str, str] = {}  # further fields of the switch's own network management requests
    network_codes: dict[str, FunctionName] = {}  # DE70 or DE24 -> function; the first of a function is sent
    field: tuple[FieldRule, ...] = ()  # how what goes out on this link is changed
    presence: tuple[PresenceRule, ...] = ()  # what a request or advice that comes in must have, and must not
    format_error_field: str = ""  # where the answer to one that breaks them has the field's number, as three digits
    administrative: Administrative = Administrative()  # what is said of an unreadable frame


def fields_by_cause(
    defaults: dict[Cause, dict[int, str]], options: dict[Cause, dict[str, str]]
) -> dict[Cause, dict[int, str]]:
    """What an advice of the switch holds by its cause: the version's values and the link's over them."""
    return {
        cause: {**defaults.get(cause, {}), **{int(name): value for name, value in options.get(cause, {}).items()}}
        for cause in Cause
    }


def network_codes(options: Iso8583Options, defaults: dict[str, NetworkFunction]) -> dict[str, NetworkFunction]:
    """Network functions by code; the link's first, so that they are the ones that are sent."""
    own = {code: NetworkFunction[name.upper()] for code, name in options.network_codes.items()}
    return {**own, **{code: function for code, function in defaults.items() if code not in own}}
