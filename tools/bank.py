"""The mind of a simulated creditor bank: credits pacs.008, answers with pacs.002, undoes on a pacs.002 RJCT.

A pacs.008 that comes twice is credited twice (see tools/ledger.py). A negative confirmation is idempotent and gets no
answer; a credit whose negative confirmation came first is rejected.
"""

import itertools
import random
import time
from copy import deepcopy
from datetime import UTC, datetime

from lxml import etree

from tools.decisions import DeclineRules
from tools.host import Heard, Line
from tools.ledger import Ledger, Undone, account_token
from tools.payments import PaymentError, Status, Transfer, read_payment

STATUS_TYPE = "pacs.002.001.10"  # the status report of the same release as pacs.008.001.08
NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:"
SETTLED, REJECTED = "ACSC", "RJCT"
DUPLICATE = "DUPL"


class Bank:
    """An `Application` that speaks ISO 20022."""

    def __init__(self, ledger: Ledger, rules: DeclineRules, seed: int) -> None:
        self._ledger = ledger
        self._rules = rules
        self._dice = random.Random(seed)
        self._numbers = itertools.count(1)
        self._life = f"{time.time_ns() // 1_000_000 % 10**10:010d}"  # keeps its ids apart from an earlier life's

    def receive(self, payload: bytes) -> Heard:
        try:
            message = read_payment(payload)
        except PaymentError as error:
            return Heard(Line("undecodable", note=str(error)))
        if isinstance(message, Status):
            return Heard(Line(message.type, message.key, message.amount, message.code, self._confirm(message)))
        reason = self._credit(message)
        status = REJECTED if reason else SETTLED
        return Heard(
            Line(message.type, message.key, message.amount),
            self._report(message, status, reason, message.msg_id, message.end_to_end_id),
            Line(STATUS_TYPE, message.key, message.amount, f"{status}/{reason}" if reason else status),
            lambda: self._wrong(message, status, reason),
        )

    def _credit(self, transfer: Transfer) -> str:
        """Book the credit; returns the reason of a rejection, empty when credited."""
        if self._ledger.undone(transfer.key, transfer.msg_id):
            return DUPLICATE
        reason = self._rules.code(transfer.creditor_account, transfer.amount)
        if not reason:
            account = account_token(transfer.creditor_account)
            self._ledger.post(transfer.key, transfer.msg_id, account, transfer.amount, transfer.currency)
        return reason

    def _confirm(self, status: Status) -> str:
        """Book a negative confirmation; returns what became of it. A positive one changes nothing."""
        if status.status != REJECTED:
            return "confirmed"
        undone = self._ledger.undo(status.key, status.msg_id)
        return "nothing to undo" if undone is Undone.NOTHING else "undone"

    def _wrong(self, transfer: Transfer, status: str, reason: str) -> bytes:
        """The same answer for a message or end-to-end id that nobody waits for."""
        stranger = f"WRONG-{self._dice.randrange(10**12):012d}"
        if self._dice.random() < 0.5:
            return self._report(transfer, status, reason, stranger, transfer.end_to_end_id)
        return self._report(transfer, status, reason, transfer.msg_id, stranger)

    def _report(self, transfer: Transfer, status: str, reason: str, msg_id: str, end_to_end_id: str) -> bytes:
        """The pacs.002, in the request's envelope if it had one."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
        report_id = f"STS{self._life}{next(self._numbers):010d}"
        document = _document(transfer, status, reason, msg_id, end_to_end_id, report_id, now)
        header = next(transfer.root.iter("{*}AppHdr"), None)
        if header is None:
            return _serialise(document)
        envelope = etree.Element(transfer.root.tag, nsmap=transfer.root.nsmap)
        envelope.append(_application_header(header, report_id, now))
        envelope.append(document)
        return _serialise(envelope)


def _document(
    transfer: Transfer, status: str, reason: str, msg_id: str, end_to_end_id: str, report_id: str, now: str
) -> etree._Element:
    namespace = NAMESPACE + STATUS_TYPE
    request = next(transfer.root.iter("{*}FIToFICstmrCdtTrf"))
    group, transaction = request.find("{*}GrpHdr"), request.find("{*}CdtTrfTxInf")
    document = etree.Element(f"{{{namespace}}}Document", nsmap={None: namespace})

    def add(parent: etree._Element, name: str, text: str | None = None) -> etree._Element:
        element = etree.SubElement(parent, f"{{{namespace}}}{name}")
        element.text = text
        return element

    def copy(parent: etree._Element, source: etree._Element | None, path: str, name: str) -> None:
        found = source.find(path) if source is not None else None
        if found is not None:
            parent.append(_renamed(found, namespace, name))

    body = add(document, "FIToFIPmtStsRpt")
    head = add(body, "GrpHdr")
    add(head, "MsgId", report_id)
    add(head, "CreDtTm", now)
    for source in (transaction, group):
        if source.find("{*}InstdAgt") is not None and source.find("{*}InstgAgt") is not None:
            copy(head, source, "{*}InstdAgt", "InstgAgt")
            copy(head, source, "{*}InstgAgt", "InstdAgt")
            break
    original = add(body, "OrgnlGrpInfAndSts")
    add(original, "OrgnlMsgId", msg_id)
    add(original, "OrgnlMsgNmId", transfer.type)
    copy(original, group, "{*}CreDtTm", "OrgnlCreDtTm")
    add(original, "OrgnlNbOfTxs", "1")
    entry = add(body, "TxInfAndSts")
    add(entry, "StsId", report_id)
    copy(entry, transaction, "{*}PmtId/{*}InstrId", "OrgnlInstrId")
    add(entry, "OrgnlEndToEndId", end_to_end_id)
    copy(entry, transaction, "{*}PmtId/{*}TxId", "OrgnlTxId")
    copy(entry, transaction, "{*}PmtId/{*}UETR", "OrgnlUETR")
    add(entry, "TxSts", status)
    if reason:
        add(add(add(entry, "StsRsnInf"), "Rsn"), "Cd", reason)
    else:
        add(entry, "AccptncDtTm", now)
    reference = add(entry, "OrgnlTxRef")
    copy(reference, transaction, "{*}IntrBkSttlmAmt", "IntrBkSttlmAmt")
    copy(reference, transaction, "{*}IntrBkSttlmDt", "IntrBkSttlmDt")
    return document


def _application_header(request: etree._Element, report_id: str, now: str) -> etree._Element:
    """The answer's AppHdr: from and to swapped, the request's own as related."""
    namespace = etree.QName(request).namespace or ""
    header = etree.Element(f"{{{namespace}}}AppHdr", nsmap={None: namespace})
    replaced = {"BizMsgIdr": report_id, "MsgDefIdr": STATUS_TYPE, "CreDt": now}
    related = etree.Element(f"{{{namespace}}}Rltd")
    for name in ("Fr", "To", "BizMsgIdr", "MsgDefIdr", "BizSvc", "MktPrctc", "CreDt"):
        source = request.find(f"{{*}}{name}")
        if source is None:
            continue
        if name in ("Fr", "To"):
            header.append(_renamed(request.find("{*}To" if name == "Fr" else "{*}Fr"), namespace, name))
        elif name in replaced:
            etree.SubElement(header, f"{{{namespace}}}{name}").text = replaced[name]
        else:
            header.append(deepcopy(source))
        if name != "MktPrctc":  # not part of a related header
            related.append(deepcopy(source))
    header.append(related)
    return header


def _renamed(source: etree._Element, namespace: str, name: str) -> etree._Element:
    """A copy of an element under another name, with everything below it in another namespace."""
    copy = etree.Element(f"{{{namespace}}}{name}", dict(source.attrib))
    copy.text = (source.text or "").strip() or None
    for child in source:
        copy.append(_renamed(child, namespace, etree.QName(child).localname))
    return copy


def _serialise(root: etree._Element) -> bytes:
    etree.cleanup_namespaces(root)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")
