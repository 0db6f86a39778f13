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
FIELDS_2003 = {
    **{number: value for number, value in FIELDS_1993.items() if number not in (18, 28, 49)},
    4: "9782000000012345",
    11: "000000123456",
    12: "20261122123456",
    13: "202611",
    22: "00" * 15 + "01",
    26: "5411",
    41: "TERM0001".ljust(16),
}
SAMPLES = {"1987": ("0200", FIELDS_1987), "1993": ("1200", FIELDS_1993), "2003": ("2200", FIELDS_2003)}
APPROVALS = {"1987": "00", "1993": "000", "2003": "0000"}


def sample(version: str) -> dict[int, str]:
    """A purchase of this version with 20 fields or more, in numeric order."""
    return dict(sorted(SAMPLES[version][1].items()))


def purchase_mti(version: str) -> str:
    return SAMPLES[version][0]
