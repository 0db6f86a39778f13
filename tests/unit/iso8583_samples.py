"""Sample requests for the ISO 8583 tests. The marker PAN must never be seen in an error, a repr or a record's text."""

PAN = "4111111111111111"

FIELDS_1987 = {
    2: PAN,
    3: "000000",
    4: "000000012345",
    7: "1122123456",
    11: "123456",
    12: "123456",
    13: "1122",
    14: "2812",
    18: "5411",
    22: "051",
    23: "001",
    25: "00",
    28: "D00000012",
    32: "123456",
    35: PAN + "=28121011234567890",
    37: "123456789012",
    41: "TERM0001",
    42: "MERCHANT0000001",
    43: "A SHOP                   PARIS        FR",
    49: "978",
    52: "0123456789ABCDEF",
    55: "9F2608C47A2032A2F170A09F2701809F360200769F37045B181CF4950580000480009A032009229C01005F2A02097882021800",
}
FIELDS_1993 = {
    **FIELDS_1987,
    12: "261122123456",
    22: "051000000001",
    25: "1400",
    28: "261122",
    24: "200",
}


def sample(version: str) -> dict[int, str]:
    """A purchase of this version with 22 fields or more, in numeric order."""
    fields = FIELDS_1987 if version == "1987" else FIELDS_1993
    return dict(sorted(fields.items()))


def purchase_mti(version: str) -> str:
    return "0200" if version == "1987" else "1200"
