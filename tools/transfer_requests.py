"""Builds pacs.008 messages from templates in which identifications, times and amounts are holes.

Templates are the built-in ones (with a business application header in an envelope, and bare) or real files.
"""

import random
import re
import uuid
from datetime import datetime
from pathlib import Path

import msgspec
from lxml import etree

from messages.iso20022 import load_schemas, parse
from messages.message import MessageError
from tools.payments import PaymentError, Transfer, read_payment

TYPE = "pacs.008.001.08"
DEBTOR_BANK = "BNKABEBBXXX"
CREDITOR_BANKS = ("BNKBBEBBXXX", "BNKCDEFFXXX", "BNKDFRPPXXX", "BNKENL2AXXX")  # test BICs
STREETS = (
    ("Rue de la Loi", "1000", "Bruxelles", "BE"),
    ("Königsallee", "40212", "Düsseldorf", "DE"),
    ("Avenue de l'Opéra", "75001", "Paris", "FR"),
    ("Keizersgracht", "1015", "Amsterdam", "NL"),
)

# path below the message, and the hole that takes its text
HOLES = (
    ("{*}GrpHdr/{*}MsgId", "MSGID"),
    ("{*}GrpHdr/{*}CreDtTm", "TIME"),
    ("{*}CdtTrfTxInf/{*}PmtId/{*}InstrId", "INSTRID"),
    ("{*}CdtTrfTxInf/{*}PmtId/{*}EndToEndId", "E2E"),
    ("{*}CdtTrfTxInf/{*}PmtId/{*}TxId", "TXID"),
    ("{*}CdtTrfTxInf/{*}PmtId/{*}UETR", "UETR"),
)
_HOLE = re.compile(rb"@@(\w+)@@")


class TransferRequest(msgspec.Struct, frozen=True):
    """One pacs.008. amount: minor units."""

    payload: bytes
    end_to_end_id: str
    uetr: str
    amount: int


class TransferTemplate:
    """A message cut at its holes (@@NAME@@)."""

    def __init__(self, text: bytes) -> None:
        """Raises PaymentError when the message is no pacs.008 with one transaction."""
        self._parts = _HOLE.split(text)
        names = self._parts[1::2]
        self._has_uetr = b"UETR" in names
        self._amount: int | None = None
        if b"AMOUNT" not in names:
            transfer = read_payment(text)
            assert isinstance(transfer, Transfer)
            self._amount = transfer.amount

    def build(self, run: str, number: int, now: datetime, dice: random.Random) -> TransferRequest:
        amount = dice.randrange(100, 2_500_000) if self._amount is None else self._amount
        end_to_end_id = f"E2E{run}{number:012d}"
        uetr = str(uuid.UUID(int=dice.getrandbits(128), version=4)) if self._has_uetr else ""
        values = {
            b"MSGID": f"MSG{run}{number:012d}",
            b"INSTRID": f"INS{run}{number:012d}",
            b"E2E": end_to_end_id,
            b"TXID": f"TX{run}{number:012d}",
            b"UETR": uetr,
            b"TIME": now.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
            b"DATE": now.strftime("%Y-%m-%d"),
            b"AMOUNT": f"{amount // 100}.{amount % 100:02d}",
            b"INVOICE": f"RE-{now.year}-{number:06d}",
            b"ACCOUNT": f"{dice.randrange(10**12):012d}",
        }
        parts = list(self._parts)
        parts[1::2] = [values[name].encode() for name in parts[1::2]]
        return TransferRequest(b"".join(parts), end_to_end_id, uetr, amount)


def built_in_templates() -> list[TransferTemplate]:
    """One with a header and one without for each creditor bank."""
    templates = []
    for place, bic in enumerate(CREDITOR_BANKS):
        document = _document(bic, STREETS[place], STREETS[place - 1])
        templates.append(TransferTemplate(f'<?xml version="1.0" encoding="UTF-8"?>\n{document}'.encode()))
        templates.append(TransferTemplate(_enveloped(document, bic).encode()))
    return templates


def file_templates(folder: Path) -> list[TransferTemplate]:
    """The valid pacs.008.001.08 files of a folder with one transaction each. Raises ValueError when there is none."""
    templates = []
    for path in sorted(folder.glob("*.xml")):
        try:
            transfer = read_payment(path.read_bytes())
        except PaymentError:
            continue
        if not isinstance(transfer, Transfer) or transfer.type != TYPE or not _is_valid(path.read_bytes()):
            continue
        message = next(transfer.root.iter("{*}FIToFICstmrCdtTrf"))
        for where, hole in HOLES:
            element = message.find(where)
            if element is not None:
                element.text = f"@@{hole}@@"
        for element in transfer.root.iterfind(".//{*}AppHdr/{*}BizMsgIdr"):
            element.text = "@@MSGID@@"
        templates.append(TransferTemplate(etree.tostring(transfer.root, xml_declaration=True, encoding="UTF-8")))
    if not templates:
        raise ValueError(f"no valid {TYPE} file in {folder}")
    return templates


def _is_valid(payload: bytes) -> bool:
    """By schema, and the header announces the message that follows (some published files are made not to)."""
    try:
        message = parse(payload, load_schemas())
    except MessageError:
        return False
    return message.header is None or message.header.findtext("{*}MsgDefIdr") == message.type


def _agent(name: str, bic: str) -> str:
    return f"<{name}><FinInstnId><BICFI>{bic}</BICFI></FinInstnId></{name}>"


def _party(name: str, who: str, address: tuple[str, str, str, str]) -> str:
    street, code, town, country = address
    return (
        f"<{name}><Nm>{who}</Nm><PstlAdr><StrtNm>{street}</StrtNm><BldgNb>16</BldgNb><PstCd>{code}</PstCd>"
        f"<TwnNm>{town}</TwnNm><Ctry>{country}</Ctry></PstlAdr></{name}>"
    )


def _account(name: str, country: str) -> str:
    return f"<{name}><Id><Othr><Id>{country}TEST@@ACCOUNT@@</Id></Othr></Id></{name}>"


def _document(bic: str, debtor: tuple[str, str, str, str], creditor: tuple[str, str, str, str]) -> str:
    return (
        f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:{TYPE}"><FIToFICstmrCdtTrf><GrpHdr><MsgId>@@MSGID@@</MsgId>'
        "<CreDtTm>@@TIME@@</CreDtTm><NbOfTxs>1</NbOfTxs><SttlmInf><SttlmMtd>CLRG</SttlmMtd>"
        "<ClrSys><Prtry>TEST</Prtry></ClrSys></SttlmInf></GrpHdr><CdtTrfTxInf><PmtId><InstrId>@@INSTRID@@</InstrId>"
        "<EndToEndId>@@E2E@@</EndToEndId><TxId>@@TXID@@</TxId><UETR>@@UETR@@</UETR></PmtId>"
        "<PmtTpInf><SvcLvl><Cd>SEPA</Cd></SvcLvl><LclInstrm><Cd>INST</Cd></LclInstrm></PmtTpInf>"
        '<IntrBkSttlmAmt Ccy="EUR">@@AMOUNT@@</IntrBkSttlmAmt><IntrBkSttlmDt>@@DATE@@</IntrBkSttlmDt>'
        "<AccptncDtTm>@@TIME@@</AccptncDtTm><ChrgBr>SLEV</ChrgBr>"
        + _agent("InstgAgt", DEBTOR_BANK)
        + _agent("InstdAgt", bic)
        + _party("Dbtr", "Example Trading SA", debtor)
        + _account("DbtrAcct", debtor[3])
        + _agent("DbtrAgt", DEBTOR_BANK)
        + _agent("CdtrAgt", bic)
        + _party("Cdtr", "Müller &amp; Söhne GmbH", creditor)
        + _account("CdtrAcct", creditor[3])
        + "<Purp><Cd>SUPP</Cd></Purp><RmtInf><Ustrd>Invoice @@INVOICE@@, customer 48813</Ustrd></RmtInf>"
        "</CdtTrfTxInf></FIToFICstmrCdtTrf></Document>"
    )


def _enveloped(document: str, bic: str) -> str:
    from_bank, to_bank = (f"<FIId><FinInstnId><BICFI>{each}</BICFI></FinInstnId></FIId>" for each in (DEBTOR_BANK, bic))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Envelope xmlns="urn:swift:xsd:envelope">'
        f'<AppHdr xmlns="urn:iso:std:iso:20022:tech:xsd:head.001.001.02"><Fr>{from_bank}</Fr><To>{to_bank}</To>'
        f"<BizMsgIdr>@@MSGID@@</BizMsgIdr><MsgDefIdr>{TYPE}</MsgDefIdr><BizSvc>test.instant.01</BizSvc>"
        f"<CreDt>@@TIME@@</CreDt></AppHdr>{document}</Envelope>"
    )
