"""What is said of credit transfers: pacs.008 and pacs.002, written and read as text. It knows nothing of the switch.

A transfer's identity is its EndToEndId, in all messages about it. Who speaks: agents.py.
"""

import re

import msgspec
from world import Violation

ACCOUNT = "DE02120300000000202051"  # the creditor's: to be seen nowhere but on the wire
SETTLED, REJECTED, PENDING = "ACSC", "RJCT", "PDNG"
_ORDER = "urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"
_REPORT = "urn:iso:std:iso:20022:tech:xsd:pacs.002.001.10"
_CREATED = "2026-03-01T10:00:00Z"


class Order(msgspec.Struct, frozen=True):
    """A pacs.008 of one transaction; amount in minor units."""

    id: str
    msg_id: str
    amount: int


class Report(msgspec.Struct, frozen=True):
    """A pacs.002 on one transaction."""

    id: str
    msg_id: str
    status: str
    reason: str


def _agent(name: str, bic: str) -> str:
    return f"<{name}><FinInstnId><BICFI>{bic}</BICFI></FinInstnId></{name}>"


def order(id_: str, amount: int) -> bytes:
    """The pacs.008 of a transfer: byte for byte the same whenever it is sent."""
    amount_text = f"{amount // 100}.{amount % 100:02d}"
    return (
        f'<Document xmlns="{_ORDER}"><FIToFICstmrCdtTrf><GrpHdr><MsgId>M{id_}</MsgId><CreDtTm>{_CREATED}</CreDtTm>'
        "<NbOfTxs>1</NbOfTxs><SttlmInf><SttlmMtd>CLRG</SttlmMtd></SttlmInf></GrpHdr><CdtTrfTxInf><PmtId>"
        f'<EndToEndId>{id_}</EndToEndId></PmtId><IntrBkSttlmAmt Ccy="EUR">{amount_text}</IntrBkSttlmAmt>'
        f"<ChrgBr>SLEV</ChrgBr>{_agent('InstgAgt', 'BNKABEBBXXX')}{_agent('InstdAgt', 'BNKBBEBBXXX')}<Dbtr><Nm>A</Nm></Dbtr>"
        f"{_agent('DbtrAgt', 'BNKABEBBXXX')}{_agent('CdtrAgt', 'BNKBBEBBXXX')}<Cdtr><Nm>B</Nm></Cdtr>"
        f"<CdtrAcct><Id><IBAN>{ACCOUNT}</IBAN></Id></CdtrAcct></CdtTrfTxInf></FIToFICstmrCdtTrf></Document>"
    ).encode()


def report(about: Order, status: str, reason: str, number: int) -> bytes:
    """The creditor agent's pacs.002."""
    why = f"<StsRsnInf><Rsn><Cd>{reason}</Cd></Rsn></StsRsnInf>" if reason else ""
    return (
        f'<Document xmlns="{_REPORT}"><FIToFIPmtStsRpt><GrpHdr><MsgId>S{number}</MsgId><CreDtTm>{_CREATED}</CreDtTm>'
        f"{_agent('InstgAgt', 'BNKBBEBBXXX')}{_agent('InstdAgt', 'BNKABEBBXXX')}</GrpHdr>"
        f"<OrgnlGrpInfAndSts><OrgnlMsgId>{about.msg_id}</OrgnlMsgId><OrgnlMsgNmId>pacs.008.001.08</OrgnlMsgNmId>"
        f"</OrgnlGrpInfAndSts><TxInfAndSts><OrgnlEndToEndId>{about.id}</OrgnlEndToEndId><TxSts>{status}</TxSts>{why}"
        "</TxInfAndSts></FIToFIPmtStsRpt></Document>"
    ).encode()


def read(payload: bytes) -> Order | Report:
    """Either of them, by whoever made it."""
    text = payload.decode()
    if _ORDER in text:
        return Order(_one("EndToEndId", text), _one("MsgId", text), int(_one("IntrBkSttlmAmt", text).replace(".", "")))
    if _REPORT in text:
        reason = re.search(r"<Cd>(\w+)</Cd>", text)
        return Report(
            _one("OrgnlEndToEndId", text), _one("OrgnlMsgId", text), _one("TxSts", text), reason[1] if reason else ""
        )
    raise Violation("neither a pacs.008 nor a pacs.002")


def _one(name: str, text: str) -> str:
    found = re.findall(rf"<{name}(?: [^>]*)?>([^<]+)</{name}>", text)
    if len(found) != 1:
        raise Violation(f"a message has {len(found)} times {name}")
    return str(found[0])
