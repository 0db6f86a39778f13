"""DE39: by what codes a link refuses, approves, accepts; and what a code means. Tables by version, changed by options.

Sources: ISO 8583:1987 annex A (response codes), 1993 annex A.1 (action codes), and for the four digits of 2003 the jPOS
common message format. 09, 68 and the like differ between networks: links override them.
"""

import re
from collections.abc import Iterable

import msgspec

from messages.iso8583.options import Iso8583Options
from messages.message import Decision, Outcome, Reason, Verdict


class Codes(msgspec.Struct, frozen=True):
    """One version's practice. In tables by message class "" is for the classes that have no row; x is any digit."""

    refused: dict[Reason, str]
    approved: dict[str, tuple[str, ...]]
    accepted: dict[str, str]  # by which the switch accepts a request, an advice, a sign-on
    partial: tuple[str, ...]  # approvals that may change the amount (DE4)
    done: tuple[str, ...]  # of an advice: taken, or taken before
    retry: tuple[str, ...]  # a passing fault
    not_found: tuple[str, ...]  # what the advice is about is not known


CODES = {
    "1987": Codes(
        refused={
            Reason.NO_ROUTE: "92",  # financial institution or network facility cannot be found for routing
            Reason.LINK_DOWN: "91",  # issuer or switch inoperative
            Reason.TIMEOUT: "68",  # response received too late
            Reason.TOO_OLD: "91",
            Reason.FORMAT: "30",
            Reason.DUPLICATE: "94",
            Reason.OVERLOAD: "96",  # system malfunction
            Reason.MALFUNCTION: "96",
            Reason.UNDELIVERABLE: "91",
            Reason.REVERSED: "12",  # invalid transaction
            Reason.NOT_REVERSIBLE: "12",
            Reason.PARTIAL: "51",  # not sufficient funds
            Reason.STAND_IN: "91",
        },
        # 08 honour with identification, 10 partial, 11 VIP, 16 update track 3, 85 no reason to decline, 87 no cash back
        approved={"1": ("00", "08", "10", "11", "16", "85", "87"), "2": ("00", "08", "10", "11", "16", "85", "87"),
                  "": ("00",)},
        accepted={"": "00"},
        partial=("10", "87"),
        done=("00", "94"),  # 94: duplicate transmission
        retry=("09", "19", "90", "91", "96"),  # in progress, re-enter, cutover, inoperative, malfunction
        not_found=("25",),
    ),
    "1993": Codes(
        refused={
            Reason.NO_ROUTE: "908",  # transaction destination cannot be found for routing
            Reason.LINK_DOWN: "907",  # card issuer or switch inoperative
            Reason.TIMEOUT: "911",  # card issuer timed out
            Reason.TOO_OLD: "911",
            Reason.FORMAT: "904",
            Reason.DUPLICATE: "913",
            Reason.OVERLOAD: "909",  # system malfunction
            Reason.MALFUNCTION: "909",
            Reason.UNDELIVERABLE: "907",
            Reason.REVERSED: "902",  # invalid transaction
            Reason.NOT_REVERSIBLE: "902",
            Reason.PARTIAL: "116",  # not sufficient funds
            Reason.STAND_IN: "912",  # card issuer unavailable
        },
        # 480: private use, by which networks accept a reversal that they need not act upon
        approved={"3": ("0xx", "300"), "4": ("0xx", "400", "480"), "5": ("0xx", "500"), "6": ("0xx", "600"),
                  "7": ("0xx", "700"), "8": ("8xx",), "": ("0xx",)},
        accepted={"3": "300", "4": "400", "5": "500", "6": "600", "7": "700", "8": "800", "": "000"},
        partial=("002", "006"),
        done=("900", "901", "913"),  # advice acknowledged, without and with liability; duplicate transmission
        # re-enter, cutover, inoperative, malfunction, signed off, timed out, unavailable, in progress
        retry=("903", "906", "907", "909", "910", "911", "912", "923"),
        not_found=("914",),  # not able to trace back to original transaction
    ),
    "2003": Codes(
        refused={
            Reason.NO_ROUTE: "9108",
            Reason.LINK_DOWN: "9107",
            Reason.TIMEOUT: "9111",
            Reason.TOO_OLD: "9111",
            Reason.FORMAT: "9100",  # message error; DE18 tells which
            Reason.DUPLICATE: "9113",
            Reason.OVERLOAD: "9109",
            Reason.MALFUNCTION: "9109",
            Reason.UNDELIVERABLE: "9107",
            Reason.REVERSED: "9102",
            Reason.NOT_REVERSIBLE: "9102",
            Reason.PARTIAL: "1016",
            Reason.STAND_IN: "9112",
        },
        approved={"3": ("0xxx", "3000"), "4": ("0xxx", "4000"), "5": ("0xxx", "5000"), "6": ("0xxx", "6000"),
                  "7": ("0xxx", "7000"), "8": ("8000",), "": ("0xxx",)},
        accepted={"3": "3000", "4": "4000", "5": "5000", "6": "6000", "7": "7000", "8": "8000", "": "0000"},
        partial=("0002", "0006"),
        done=("9000", "9001", "9113"),
        retry=("9103", "9106", "9107", "9109", "9110", "9111", "9112", "9123"),
        not_found=("9114",),
    ),
}  # fmt: skip
_OF_MONEY = "12"  # the message classes whose approvals the option `approved` replaces


class LinkCodes:
    """The codes of one link. Raises ValueError for a version without any."""

    def __init__(self, options: Iso8583Options, version: str) -> None:
        if version not in CODES:
            raise ValueError(f"no response codes for ISO 8583:{version}: one of {', '.join(CODES)}")
        codes = CODES[version]
        self.refused = {**codes.refused, **options.response_codes}
        approved = dict(codes.approved)
        if options.approved:
            approved |= dict.fromkeys(_OF_MONEY, options.approved)
        self._approved = {digit: _pattern(values) for digit, values in approved.items()}
        self._accepted = {**codes.accepted, **options.accepted_codes}
        self.partial = frozenset(options.partial_codes or codes.partial)
        self._meanings = {
            **dict.fromkeys(options.advice_done_codes or codes.done, Verdict.DONE),
            **dict.fromkeys(options.advice_retry_codes or codes.retry, Verdict.RETRY),
            **dict.fromkeys(options.advice_not_found_codes or codes.not_found, Verdict.NOT_FOUND),
        }

    def approves(self, digit: str, code: str) -> bool:
        """Whether this code approves a message of this class. One without a code is acknowledged."""
        pattern = self._approved.get(digit) or self._approved[""]
        return not code or pattern.fullmatch(code) is not None

    def accepted(self, digit: str) -> str:
        """The code by which the switch approves or accepts a message of this class."""
        return self._accepted.get(digit) or self._accepted[""]

    def verdict(self, outcome: Outcome) -> Verdict:
        """What an advice's answer means for it."""
        meaning = self._meanings.get(outcome.code)
        if meaning is None:
            return Verdict.DONE if outcome.decision is Decision.APPROVED else Verdict.REFUSED
        return meaning

    def sent(self) -> set[str]:
        """Every code that the switch may send."""
        return {*self.refused.values(), *self._accepted.values()}


def _pattern(codes: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(code).replace("x", "[0-9]") for code in codes))
