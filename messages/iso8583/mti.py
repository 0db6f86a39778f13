"""Message type identifiers: what a message wants of its receiver, repeats, and the MTI of its answer; by version.

ISO 8583 MTI: version, class, function, origin. Clause 4.1 of 1987, 4.2 of 1993. The versions share classes and origins;
1987 knows completion confirmations where the others have the issuer's own messages, 2003 has instructions and
acknowledges notifications.
"""

from messages.message import Kind, MessageError

VERSIONS = {"1987": "0", "1993": "1", "2003": "2"}
REPEATS = {"1": "0", "3": "2", "5": "4"}  # origin of a repeat -> origin of what it repeats: acquirer, issuer, other
ORIGINS = "012345"
ISSUER = "23"  # origins
CLASSES = {
    "1": "authorization",
    "2": "financial",
    "3": "file action",
    "4": "reversal and chargeback",
    "5": "reconciliation",
    "6": "administrative",
    "7": "fee collection",
    "8": "network management",
}
ADMINISTRATIVE = "6"
# function of what wants an answer -> function of the answer
ANSWERS = {"0": "1", "2": "3", "6": "7"}

_FUNCTIONS = {
    "0": Kind.REQUEST,
    "1": Kind.ANSWER,
    "2": Kind.ADVICE,
    "3": Kind.ADVICE_ANSWER,
    "4": Kind.NOTIFICATION,
}
_FUNCTIONS_2003 = {
    **_FUNCTIONS,
    "5": Kind.NOTIFICATION,  # the acknowledgement of a notification: wants nothing
    "6": Kind.ADVICE,  # instruction
    "7": Kind.ADVICE_ANSWER,  # instruction acknowledgement
}
_VERSION_FUNCTIONS = {"1987": _FUNCTIONS, "1993": _FUNCTIONS, "2003": _FUNCTIONS_2003}
# a reversal cannot be declined: both forms have to be delivered
_REVERSAL = {"0": Kind.ADVICE, "1": Kind.ADVICE_ANSWER}
_NETWORK = {
    "0": Kind.NETWORK_REQUEST,
    "1": Kind.NETWORK_ANSWER,
    "2": Kind.NETWORK_REQUEST,
    "3": Kind.NETWORK_ANSWER,
}
_SPECIAL = {"4": _REVERSAL, "8": _NETWORK}
# 1987: 0102, 0202 and their repeats confirm that a request was completed; 0122, 0222 likewise. Answered by 0112, 0212
CONFIRMING_CLASSES = "12"
_CONFIRMATION = {
    "0": Kind.ADVICE,
    "1": Kind.ADVICE_ANSWER,
    "2": Kind.ADVICE,
    "3": Kind.ADVICE_ANSWER,
}


def _kinds(version: str) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for digit in CLASSES:
        functions = {**_VERSION_FUNCTIONS[version], **_SPECIAL.get(digit, {})}
        for function, kind in functions.items():
            for origin in ORIGINS:
                kinds[VERSIONS[version] + digit + function + origin] = kind
    if version == "1987":
        for digit in CONFIRMING_CLASSES:
            for function, kind in _CONFIRMATION.items():
                for origin in ISSUER:
                    kinds[VERSIONS[version] + digit + function + origin] = kind
    return kinds


KINDS = {version: _kinds(version) for version in VERSIONS}  # version -> MTI -> kind


def kind_of(mti: str, version: str) -> Kind:
    """The kind of a message of a link that speaks this version. Raises MessageError for an MTI without one."""
    kind = KINDS[version].get(mti)
    if kind is None:
        if mti[:1] != VERSIONS[version]:
            raise MessageError(f"not a message of ISO 8583:{version}", "MTI", 0)
        raise MessageError("no such class, function or origin", "MTI", 0)
    return kind


def is_repeat(mti: str) -> bool:
    return mti[3] in REPEATS


def unmarked(mti: str) -> str:
    """The MTI without the mark of a repeat: 0201 -> 0200, 0203 -> 0202."""
    return mti[:3] + REPEATS.get(mti[3], mti[3])


def answer_mti(mti: str) -> str:
    """The MTI of the answer: 0201 -> 0210, 0203 -> 0212, 1421 -> 1430, 1805 -> 1814. MessageError if it has none."""
    answer = ANSWERS.get(mti[2])
    if answer is None:
        raise MessageError("wants no answer", "MTI", 0)
    return mti[:2] + answer + REPEATS.get(mti[3], mti[3])


def advice_mti(mti: str) -> str:
    """The advice that tells of a request afterwards: 0100 -> 0120, 0201 -> 0220."""
    return mti[:2] + "2" + REPEATS.get(mti[3], mti[3])


def is_reversal(mti: str) -> bool:
    """Reversals are the acquirer's (x4x0, x4x4); the same class from an issuer (x4x2) is a chargeback."""
    return mti[1] == "4" and mti[3] not in ISSUER


def is_confirmation(mti: str) -> bool:
    """A completion confirmation of 1987, which keeps the STAN of what it confirms."""
    return mti[0] == VERSIONS["1987"] and mti[1] in CONFIRMING_CLASSES and mti[3] in ISSUER


def key_prefix(mti: str) -> str:
    """What keeps a message apart from others with the same fields: class and function, and that it is a confirmation."""
    return mti[1:3] + "c" if is_confirmation(mti) else mti[1:3]
