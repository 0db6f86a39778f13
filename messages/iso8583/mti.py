"""Message type identifiers: what a message wants of its receiver, repeats, and the MTI of its answer.

ISO 8583 MTI: version, class, function, origin. Clause 4.1 of 1987, 4.2 of 1993. Pairs of request and answer, and odd
origins for repeats, are the same in both.
"""

from messages.message import Kind, MessageError

VERSIONS = {"1987": "0", "1993": "1", "2003": "2"}
REPEATS = {"1": "0", "3": "2", "5": "4"}  # origin of a repeat -> origin of what it repeats: acquirer, issuer, other
ORIGINS = "012345"

_FUNCTIONS = {
    "0": Kind.REQUEST,
    "1": Kind.ANSWER,
    "2": Kind.ADVICE,
    "3": Kind.ADVICE_ANSWER,
    "4": Kind.NOTIFICATION,
}
_REVERSAL = {
    "0": Kind.ADVICE,
    "1": Kind.ADVICE_ANSWER,
}  # a reversal cannot be declined: both forms have to be delivered
_NETWORK = {
    "0": Kind.NETWORK_REQUEST,
    "1": Kind.NETWORK_ANSWER,
    "2": Kind.NETWORK_REQUEST,
    "3": Kind.NETWORK_ANSWER,
}
_CLASSES: dict[str, dict[str, Kind]] = {
    "1": {},  # authorization
    "2": {},  # financial
    "3": {},  # file action
    "4": _REVERSAL,  # reversal and chargeback
    "5": {},  # reconciliation
    "6": {},  # administrative
    "7": {},  # fee collection
    "8": _NETWORK,  # network management
}
# class and function -> kind
KINDS = {
    digit + function: special.get(function, kind)
    for digit, special in _CLASSES.items()
    for function, kind in _FUNCTIONS.items()
}


def kind_of(mti: str, version: str) -> Kind:
    """The kind of a message of a link that speaks this version. Raises MessageError for an MTI without one."""
    if mti[0] != VERSIONS[version]:
        raise MessageError(f"not a message of ISO 8583:{version}", "MTI", 0)
    kind = KINDS.get(mti[1:3])
    if kind is None or mti[3] not in ORIGINS:
        raise MessageError("no such class, function or origin", "MTI", 0)
    return kind


def is_repeat(mti: str) -> bool:
    return mti[3] in REPEATS


def unmarked(mti: str) -> str:
    """The MTI without the mark of a repeat: 0201 -> 0200, 0203 -> 0202."""
    return mti[:3] + REPEATS.get(mti[3], mti[3])


def answer_mti(mti: str) -> str:
    """The MTI of the answer: 0201 -> 0210, 1421 -> 1430. Raises MessageError where there is none."""
    if mti[2] not in "02":
        raise MessageError("wants no answer", "MTI", 0)
    return mti[:2] + str(int(mti[2]) + 1) + REPEATS.get(mti[3], mti[3])
