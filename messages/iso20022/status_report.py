"""Builds the pacs.002.001.10 that the switch makes itself: refusals, and negative confirmations to the creditor's agent."""

import enum
from hashlib import blake2b

from lxml import etree

from messages.iso20022.facts import Agent
from messages.iso20022.original import Header, Original

TYPE = "pacs.002.001.10"
_NAMESPACE = f"urn:iso:std:iso:20022:tech:xsd:{TYPE}"


class Toward(enum.Enum):
    """Who a report is for: it swaps the parties of the request, or goes the request's own way."""

    DEBTOR_SIDE = "answer"
    CREDITOR_SIDE = "reversal"


def build(
    original: Original, status: str, reason: str, toward: Toward, bic: str, created: str, wrapper: tuple[str, ...]
) -> bytes:
    """A pacs.002 with one status, in the form of the request: wrapper, AppHdr where the request had one, Document. UTF-8.

    `reason` is a status reason code or "". `bic` is the switch's own, or "" for the party named by the request.
    `created` is CreDtTm and the header's CreDt where the request gives none (ISO 8601 with offset). MsgId and BizMsgIdr are
    32 hexadecimal digits derived from the arguments, so that the same report has the same identification at any node.
    """
    seed = b"\0".join((original.encode(), status.encode(), reason.encode(), toward.value.encode(), created.encode()))
    msg_id = blake2b(seed, digest_size=16).hexdigest()
    document = _document(original, status, reason, toward, bic, created, msg_id)
    if original.header is None and not wrapper:
        return _serialise(document)
    names = wrapper or original.wrapper
    outermost = parent = etree.Element(names[0], nsmap={None: etree.QName(names[0]).namespace})
    for name in names[1:]:
        parent = etree.SubElement(parent, name, nsmap={None: etree.QName(name).namespace})
    if original.header is not None:
        parent.append(_header(original.header, toward, bic, created, msg_id))
    parent.append(document)
    return _serialise(outermost)


def _serialise(element: etree._Element) -> bytes:
    return etree.tostring(element, encoding="UTF-8", xml_declaration=True)


def _add(parent: etree._Element, name: str, text: str | None = None) -> etree._Element:
    """A child in its parent's namespace."""
    child = etree.SubElement(parent, parent.tag.rpartition("}")[0] + "}" + name)
    child.text = text
    return child


def _document(
    original: Original, status: str, reason: str, toward: Toward, bic: str, created: str, msg_id: str
) -> etree._Element:
    document = etree.Element(f"{{{_NAMESPACE}}}Document", nsmap={None: _NAMESPACE})
    report = _add(document, "FIToFIPmtStsRpt")
    header = _add(report, "GrpHdr")
    _add(header, "MsgId", msg_id)
    _add(header, "CreDtTm", created)
    if toward is Toward.DEBTOR_SIDE:
        sender, receiver = original.instructed, original.instructing
    else:
        sender, receiver = original.instructing, original.instructed
    group = _add(report, "OrgnlGrpInfAndSts")
    _add(group, "OrgnlMsgId", original.references.msg_id)
    _add(group, "OrgnlMsgNmId", original.type)
    _add(group, "OrgnlCreDtTm", original.created)
    if original.count > 1:
        _add(group, "OrgnlNbOfTxs", str(original.count))
        _add(group, "GrpSts", status)
        _add_reason(group, reason)
        return document
    transaction = _add(report, "TxInfAndSts")
    references = original.references
    for name, value in (
        ("OrgnlInstrId", references.instr_id),
        ("OrgnlEndToEndId", references.end_to_end_id),
        ("OrgnlTxId", references.tx_id),
        ("OrgnlUETR", references.uetr),
    ):
        if value:
            _add(transaction, name, value)
    _add(transaction, "TxSts", status)
    _add_reason(transaction, reason)
    _add_agent(transaction, "InstgAgt", Agent(bic) if bic else sender)
    _add_agent(transaction, "InstdAgt", receiver)
    return document


def _add_reason(parent: etree._Element, reason: str) -> None:
    if reason:
        _add(_add(_add(parent, "StsRsnInf"), "Rsn"), "Cd", reason)


def _add_agent(parent: etree._Element, name: str, agent: Agent) -> None:
    if agent == Agent():
        return
    institution = _add(_add(parent, name), "FinInstnId")
    if agent.bic:
        _add(institution, "BICFI", agent.bic)
    if agent.member_id:
        member = _add(institution, "ClrSysMmbId")
        if agent.clearing_system:
            _add(_add(member, "ClrSysId"), "Cd", agent.clearing_system)
        _add(member, "MmbId", agent.member_id)


def _header(request: Header, toward: Toward, bic: str, created: str, msg_id: str) -> etree._Element:
    header = etree.Element(f"{{{request.namespace}}}AppHdr", nsmap={None: request.namespace})
    sender, receiver = request.sender, request.receiver
    if toward is Toward.DEBTOR_SIDE:
        sender, receiver = receiver, sender
        created = request.created
    if bic:
        _add(_add(_add(_add(header, "Fr"), "FIId"), "FinInstnId"), "BICFI", bic)
    else:
        _add_party(header, "Fr", sender)
    _add_party(header, "To", receiver)
    _add(header, "BizMsgIdr", msg_id)
    _add(header, "MsgDefIdr", TYPE)
    if request.service:
        _add(header, "BizSvc", request.service)
    _add(header, "CreDt", created)
    return header


def _add_party(header: etree._Element, name: str, party: bytes) -> None:
    _add(header, name).extend(etree.fromstring(party))
