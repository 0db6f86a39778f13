"""Messages that terminals, issuers and banks send, as tables: what a scenario does not say stands here.

A template holds an MTI of 1987 and its data elements; `in_1993` says what of that is otherwise in 1993 and 2003. DE7, 11, 37
and 41 are made by the player: a number for each message, a terminal for each actor. "of": the fields come from the message that
it is about, which DE90 (1987) or DE56 (later) names.
"""

import msgspec

PAN = "4111111111111111"
TRACK_2 = "4111111111111111=28121011234567890"
PIN_BLOCK = "0123456789ABCDEF"
DATE, TIME, YEAR = "0301", "100000", "26"
STAN = 700_000  # the first of ours is the one after it: far from those that the switch gives

# of a card message of any kind
COMMON: dict[int, str | None] = {
    2: PAN, 4: "000000001000", 12: TIME, 13: DATE, 18: "5999", 22: "051", 25: "00", 32: "123456",
    42: "MERCHANT0000001", 49: "978",
}  # fmt: skip
# 1993 has another form, or none, for these
COMMON_1993: dict[int, str | None] = {
    12: YEAR + DATE + TIME, 13: None, 18: None, 22: "510101511340", 24: "200", 25: None, 26: "5999",
}  # fmt: skip
COMMON_2003 = COMMON_1993 | {4: "9782000000001000", 12: "20" + YEAR + DATE + TIME, 22: "5101015113400000" * 2, 49: None}


class Version(msgspec.Struct, frozen=True):
    """What all messages of a version of the standard have. time: DE12 of network management, which 1987 has not there."""

    network: str
    common: dict[int, str | None]
    approved: str
    time: str = ""


VERSIONS = {
    "1987": Version("0800", {}, "00"),
    "1993": Version("1804", COMMON_1993, "000", YEAR + DATE + TIME),
    "2003": Version("2804", COMMON_2003, "0000", "20" + YEAR + DATE + TIME),
}


class Template(msgspec.Struct, frozen=True):
    """fields: over the common ones; None leaves one out. about: "of" is needed, and its fields are the common ones."""

    mti: str
    fields: dict[int, str | None] = {}
    in_1993: dict[int, str | None] = {}
    about: bool = False


_NO_CARD: dict[int, str | None] = dict.fromkeys((2, 4, 12, 13, 18, 22, 25, 32, 37, 49))

CARD: dict[str, Template] = {
    "purchase": Template("0200", {3: "000000", 35: TRACK_2}),
    "purchase with PIN": Template("0200", {3: "000000", 35: TRACK_2, 52: PIN_BLOCK}),
    "purchase with cash-back": Template("0200", {3: "090000", 54: "0040978D000000000200"}),
    "cash": Template("0200", {3: "010000", 18: "6011", 35: TRACK_2, 52: PIN_BLOCK}, {26: "6011"}),
    "authorisation": Template("0100", {3: "000000", 35: TRACK_2}, {24: "100"}),
    "refund": Template("0200", {3: "200000"}),
    "deposit": Template("0200", {3: "210000"}),
    "original credit": Template("0200", {3: "260000"}),
    "account transfer": Template("0200", {3: "401020", 35: TRACK_2, 52: PIN_BLOCK}),
    "PIN change": Template("0100", {3: "920000", 4: None, 35: TRACK_2, 52: PIN_BLOCK}, {24: "100"}),
    "balance inquiry": Template("0100", {3: "310000", 4: None, 35: TRACK_2, 52: PIN_BLOCK}, {24: "108"}),
    "completion": Template("0220", {3: "000000"}, {24: "201"}, about=True),
    "authorisation advice": Template("0120", {3: "000000", 39: "00"}, {24: "100"}),
    "financial advice": Template("0220", {3: "000000", 39: "00"}, {24: "200"}),
    "confirmation": Template("0202", {39: "00"}, about=True),  # of 1987
    "reversal": Template("0400", {}, {24: "400", 25: "4000"}, about=True),
    "reversal advice": Template("0420", {}, {24: "400", 25: "4000"}, about=True),
    "partial reversal": Template(  # of the template's 10.00 there remain 4.00
        "0420",
        {95: "000000000400000000000000C00000000C00000000"},
        {4: "000000000400", 24: "401", 25: "4004", 30: "000000001000000000000000", 95: None},
        about=True,
    ),
    # class 5 has no card and no amount; the figures, DE74 to 97, stand in the scenario
    "reconciliation": Template("0500", _NO_CARD, {12: YEAR + DATE + TIME, 24: "500", 26: None}),
    "reconciliation advice": Template("0520", _NO_CARD, {12: YEAR + DATE + TIME, 24: "500", 26: None}),
    "script result": Template("0620", {}, {24: "600"}, about=True),
}
ABOUT = (2, 3, 4, 12, 13, 18, 22, 24, 25, 26, 32, 33, 37, 41, 42, 49)  # taken from the message it is about

# network management: DE70 of 1987, DE24 of 1993
NETWORK = {
    "sign-on": ("001", "801"), "sign-off": ("002", "802"), "echo": ("301", "831"), "cutover": ("201", "821"),
    "key change": ("161", "811"),
}  # fmt: skip

# what an issuer's answer carries back of its request
ANSWERED = (2, 3, 4, 7, 11, 12, 13, 15, 24, 32, 33, 37, 41, 42, 49, 56, 70, 90)

AGENT = "<{0}><FinInstnId><BICFI>{1}</BICFI></FinInstnId></{0}>"
TRANSFER = (
    '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"><FIToFICstmrCdtTrf><GrpHdr>'
    "<MsgId>{msg_id}</MsgId><CreDtTm>2026-03-01T10:00:00Z</CreDtTm><NbOfTxs>1</NbOfTxs>"
    "<SttlmInf><SttlmMtd>CLRG</SttlmMtd></SttlmInf>{instructing}{instructed}</GrpHdr>"
    "<CdtTrfTxInf><PmtId><EndToEndId>{end_to_end_id}</EndToEndId></PmtId>"
    '<IntrBkSttlmAmt Ccy="{currency}">{amount}</IntrBkSttlmAmt><ChrgBr>SLEV</ChrgBr><Dbtr><Nm>A. Payer</Nm></Dbtr>'
    "{debtor}{creditor}<Cdtr><Nm>B. Payee</Nm></Cdtr></CdtTrfTxInf></FIToFICstmrCdtTrf></Document>"
)
TRANSFER_VALUES = {
    "currency": "EUR", "amount": "10.00", "instructing": "DEBTDEFFXXX", "instructed": "CSMXBEBB",
    "debtor": "DEBTDEFFXXX", "creditor": "CREDFRPP",
}  # fmt: skip
AGENTS = {"instructing": "InstgAgt", "instructed": "InstdAgt", "debtor": "DbtrAgt", "creditor": "CdtrAgt"}
STATUS = (
    '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.002.001.10"><FIToFIPmtStsRpt><GrpHdr>'
    "<MsgId>{msg_id}</MsgId><CreDtTm>2026-03-01T10:00:02Z</CreDtTm></GrpHdr><OrgnlGrpInfAndSts>"
    "<OrgnlMsgId>{original}</OrgnlMsgId><OrgnlMsgNmId>pacs.008.001.08</OrgnlMsgNmId></OrgnlGrpInfAndSts>"
    "<TxInfAndSts><OrgnlEndToEndId>{end_to_end_id}</OrgnlEndToEndId><TxSts>{status}</TxSts>{reason}</TxInfAndSts>"
    "</FIToFIPmtStsRpt></Document>"
)
REASON = "<StsRsnInf><Rsn><Cd>{}</Cd></Rsn></StsRsnInf>"
