"""What differs between the versions of ISO 8583 for a link: echoed fields, reversals, advices, network management."""

import msgspec

from messages.message import Cause, NetworkFunction


class Rules(msgspec.Struct, frozen=True):
    """One version's practice. Field numbers are data elements; codes of DE39 are in codes.py."""

    identifying: tuple[int, ...]  # an answer carries its request's own, whatever the issuer says
    echoed: tuple[int, ...]  # and its request's of these where the issuer says nothing
    original: tuple[str, ...]  # fields by which a later message names this one
    original_data: int  # which data element names the original
    reversed: tuple[int, ...]  # a reversal carries these of what it reverses
    reversal_mti: str
    reversal_fields: dict[Cause, dict[int, str]]  # and these values
    stand_in: tuple[int, ...]  # a stand-in advice carries these of what was decided
    stand_in_fields: dict[Cause, dict[int, str]]
    network_mti: str
    network_field: int  # which data element holds the network function
    network_codes: dict[str, NetworkFunction]  # the first of a function is the one that is sent
    network_times: dict[int, str]  # date and time fields of network management, for strftime (UTC)


# 1993 annex A. DE24: 400 full reversal, the transaction did not complete as approved. DE25: 4021 timeout waiting for
# response, 4013 unable to deliver the message to the point of service, 4007 card acceptor device unable to complete the
# transaction: it takes no part, and 4004, completed partially, would leave the issuer one
_REVERSAL_FIELDS = {
    Cause.TIMEOUT: {24: "400", 25: "4021"},
    Cause.UNDELIVERABLE: {24: "400", 25: "4013"},
    Cause.PARTIAL: {24: "400", 25: "4007"},
    Cause.UNAVAILABLE: {24: "400", 25: "4021"},
}
# DE25: 1000 stand-in at the card issuer's option, 1002 card issuer timed out, 1003 card issuer unavailable
_STAND_IN_FIELDS = {
    Cause.TIMEOUT: {25: "1002"},
    Cause.UNAVAILABLE: {25: "1003"},
    Cause.UNDELIVERABLE: {25: "1003"},
    Cause.PARTIAL: {25: "1000"},
}
_FUNCTION_CODES = {
    "801": NetworkFunction.SIGN_ON,
    "802": NetworkFunction.SIGN_OFF,
    "811": NetworkFunction.KEY_CHANGE,
    "821": NetworkFunction.CUTOVER,
    "831": NetworkFunction.ECHO,
}

RULES = {
    "1987": Rules(
        identifying=(2, 3, 4, 7, 11, 12, 13, 37, 41, 42),
        echoed=(15, 24, 32, 33, 49, 70, 90, 95),
        original=("7", "11", "41"),
        original_data=90,
        reversed=(2, 3, 4, 5, 6, 12, 13, 18, 19, 22, 24, 25, 32, 33, 37, 41, 42, 43, 49, 50, 51),
        reversal_mti="0420",
        reversal_fields={},
        stand_in=(2, 3, 4, 5, 6, 12, 13, 14, 18, 19, 22, 23, 24, 25, 28, 32, 33, 37, 41, 42, 43, 49, 50, 51, 54),
        stand_in_fields={},
        network_mti="0800",
        network_field=70,
        network_codes={
            "001": NetworkFunction.SIGN_ON,
            "002": NetworkFunction.SIGN_OFF,
            "301": NetworkFunction.ECHO,
            "061": NetworkFunction.SIGN_ON,
            "062": NetworkFunction.SIGN_OFF,
            "071": NetworkFunction.SIGN_ON,
            "072": NetworkFunction.SIGN_OFF,
            "161": NetworkFunction.KEY_CHANGE,
            "162": NetworkFunction.KEY_CHANGE,
            "201": NetworkFunction.CUTOVER,
            "202": NetworkFunction.CUTOVER,
        },
        network_times={7: "%m%d%H%M%S"},
    ),
    "1993": Rules(
        identifying=(2, 3, 4, 7, 11, 12, 37, 41, 42),
        echoed=(15, 24, 32, 33, 49, 56, 59, 93, 94, 100),
        original=("11", "12", "41"),
        original_data=56,
        reversed=(2, 3, 4, 5, 6, 12, 19, 22, 26, 32, 33, 37, 41, 42, 43, 49, 50, 51, 93, 94, 100),
        reversal_mti="1420",
        reversal_fields=_REVERSAL_FIELDS,
        stand_in=(2, 3, 4, 5, 6, 12, 14, 19, 22, 23, 24, 26, 32, 33, 37, 41, 42, 43, 46, 49, 50, 51, 54, 93, 94, 100),
        stand_in_fields=_STAND_IN_FIELDS,
        network_mti="1804",
        network_field=24,
        network_codes=_FUNCTION_CODES,
        network_times={7: "%m%d%H%M%S", 12: "%y%m%d%H%M%S"},
    ),
    "2003": Rules(
        identifying=(2, 3, 4, 7, 11, 12, 37, 41, 42),
        echoed=(15, 21, 24, 32, 33, 56, 59, 93, 94, 100),
        original=("11", "12", "41"),
        original_data=56,
        reversed=(2, 3, 4, 5, 6, 12, 19, 21, 22, 26, 32, 33, 37, 41, 42, 43, 59, 93, 94, 100),
        reversal_mti="2420",
        reversal_fields=_REVERSAL_FIELDS,
        stand_in=(2, 3, 4, 5, 6, 12, 14, 19, 21, 22, 23, 24, 26, 32, 33, 37, 41, 42, 43, 46, 54, 59, 93, 94, 100),
        stand_in_fields=_STAND_IN_FIELDS,
        network_mti="2804",
        network_field=24,
        network_codes=_FUNCTION_CODES,
        network_times={7: "%m%d%H%M%S", 12: "%Y%m%d%H%M%S"},
    ),
}
