"""What differs between the versions of ISO 8583 for a link: codes, echoed fields, network management, reversals."""

import msgspec

from messages.message import NetworkFunction, Reason


class Rules(msgspec.Struct, frozen=True):
    """One version's practice. Field numbers are data elements."""

    response_codes: dict[Reason, str]  # DE39 by which the switch refuses
    approved: tuple[str, ...]  # values of DE39; x is any digit
    partial: frozenset[str]  # approvals that may change the amount (DE4)
    identifying: tuple[int, ...]  # an answer carries its request's own, whatever the issuer says
    echoed: tuple[int, ...]  # and its request's of these where the issuer says nothing
    reversed: tuple[int, ...]  # a reversal carries these of what it reverses
    reversal_mti: str
    network_mti: str
    network_field: int  # which data element holds the network function
    network_codes: dict[NetworkFunction, str]
    network_accepted: str  # DE39 of an accepted network management message


RULES = {
    # response codes: ISO 8583:1987 annex A. 09, 68 and the like differ between networks: links override them
    "1987": Rules(
        response_codes={
            Reason.NO_ROUTE: "92",  # financial institution or network facility cannot be found for routing
            Reason.LINK_DOWN: "91",  # issuer or switch inoperative
            Reason.TIMEOUT: "68",  # response received too late
            Reason.TOO_OLD: "91",  # the switch could not record it in time: its mirror was lost
            Reason.FORMAT: "30",
            Reason.DUPLICATE: "94",
            Reason.OVERLOAD: "96",  # system malfunction
            Reason.MALFUNCTION: "96",
            Reason.UNDELIVERABLE: "91",
            Reason.REVERSED: "17",  # customer cancellation
            Reason.PARTIAL: "51",  # not sufficient funds: what the issuer would say to one that takes no part
            Reason.STAND_IN: "91",
        },
        approved=("00", "08", "10", "11", "16", "85", "87"),
        partial=frozenset(("10", "87")),
        identifying=(2, 3, 4, 7, 11, 12, 13, 37, 41, 42),
        echoed=(15, 24, 32, 33, 49, 70, 90),
        reversed=(2, 3, 4, 5, 6, 12, 13, 18, 19, 22, 24, 25, 32, 33, 37, 41, 42, 43, 49, 50, 51),
        reversal_mti="0420",
        network_mti="0800",
        network_field=70,
        network_codes={
            NetworkFunction.SIGN_ON: "001",
            NetworkFunction.SIGN_OFF: "002",
            NetworkFunction.ECHO: "301",
        },
        network_accepted="00",
    ),
    # action codes: ISO 8583:1993 annex A.1
    "1993": Rules(
        response_codes={
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
            Reason.PARTIAL: "116",  # not sufficient funds
            Reason.STAND_IN: "912",  # card issuer unavailable
        },
        approved=("0xx", "300", "400", "500", "600", "700", "800"),
        partial=frozenset(("002", "004")),
        identifying=(2, 3, 4, 7, 11, 12, 37, 41, 42),
        echoed=(15, 24, 32, 33, 49, 56, 93, 94, 100),
        reversed=(2, 3, 4, 5, 6, 12, 19, 22, 26, 32, 33, 37, 41, 42, 43, 49, 50, 51, 93, 94, 100),
        reversal_mti="1420",
        network_mti="1804",
        network_field=24,
        network_codes={
            NetworkFunction.SIGN_ON: "801",
            NetworkFunction.SIGN_OFF: "802",
            NetworkFunction.ECHO: "831",
        },
        network_accepted="800",
    ),
}
