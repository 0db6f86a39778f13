"""Writes the pacs.002 that the switch makes itself: refusals, and negative confirmations to the creditor's agent."""

import enum
from hashlib import blake2b
from xml.sax.saxutils import escape, quoteattr

import msgspec

from messages.iso20022.facts import Agent
from messages.iso20022.original import Header, Original

TYPE = "pacs.002.001.10"
_NAMESPACE = f"urn:iso:std:iso:20022:tech:xsd:{TYPE}"

# An element: its name, and its text (as XML) or its children. One with neither is left out.
_Element = tuple[str, "str | list[_Element]"]


class Toward(enum.Enum):
    """Who a report is for: back, with the parties of the request swapped, or on, the request's own way."""

    DEBTOR_AGENT = "answer"
    CREDITOR_AGENT = "reversal"


class Report(msgspec.Struct, frozen=True, gc=False):
    """What a status report says of a request."""

    status: str  # "RJCT"
    reason: str  # status reason code, or ""
    toward: Toward
    created: str  # CreDtTm, ISO 8601
    header_created: str  # CreDt of the AppHdr
    bic: str = ""  # the switch's own; "" takes the party named by the request
    wrapper: tuple[str, ...] = ()  # Clark names; () takes those of the request


def write(original: Original, report: Report) -> bytes:
    """A pacs.002.001.10 in the form of the request: its wrapper, an AppHdr where the request had one, Document. UTF-8.

    One transaction gets its TxSts; a request of several is decided as a whole, by GrpSts. MsgId and BizMsgIdr are 32
    hexadecimal digits derived from the arguments, so that one report has one identification, whichever node makes it.
    """
    seed = msgspec.msgpack.encode((original, report.status, report.reason, report.toward.value, report.created))
    msg_id = blake2b(seed, digest_size=16).hexdigest()
    parts = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    ends: list[str] = []
    outer = ""
    for name in report.wrapper or original.wrapper:
        namespace, _, local = name.rpartition("}")
        declaration = f" xmlns={quoteattr(namespace[1:])}" if namespace != outer else ""
        parts.append(f"<{local}{declaration}>")
        ends.append(f"</{local}>")
        outer = namespace
    if original.header is not None:
        header = _header(original.header, report, msg_id)
        parts.append(f"<AppHdr xmlns={quoteattr(original.header.namespace)}>{_xml(header)}</AppHdr>")
    parts.append(f'<Document xmlns="{_NAMESPACE}">{_xml(_document(original, report, msg_id))}</Document>')
    return "".join((*parts, *reversed(ends))).encode()


def _text(value: str) -> str:
    """A value as XML. A bare carriage return would be read as a line feed (XML 1.0, 2.11)."""
    return escape(value, {"\r": "&#13;"})


def _xml(elements: list[_Element]) -> str:
    out = []
    for name, content in elements:
        inner = content if isinstance(content, str) else _xml(content)
        if inner:
            out.append(f"<{name}>{inner}</{name}>")
    return "".join(out)


def _document(original: Original, report: Report, msg_id: str) -> list[_Element]:
    references = original.references
    reason: _Element = ("StsRsnInf", [("Rsn", [("Cd", _text(report.reason))])])
    group: list[_Element] = [
        ("OrgnlMsgId", _text(references.msg_id)),
        ("OrgnlMsgNmId", original.type),
        ("OrgnlCreDtTm", original.created),
    ]
    transaction: list[_Element] = []
    if original.count > 1:
        group += [("OrgnlNbOfTxs", str(original.count)), ("GrpSts", report.status), reason]
    else:
        sender, receiver = original.instructing, original.instructed
        if report.toward is Toward.DEBTOR_AGENT:
            sender, receiver = receiver, sender
        transaction = [
            ("OrgnlInstrId", _text(references.instr_id)),
            ("OrgnlEndToEndId", _text(references.end_to_end_id)),
            ("OrgnlTxId", _text(references.tx_id)),
            ("OrgnlUETR", references.uetr),
            ("TxSts", report.status),
            reason,
            ("InstgAgt", _agent(Agent(report.bic) if report.bic else sender)),
            ("InstdAgt", _agent(receiver)),
        ]
    return [
        (
            "FIToFIPmtStsRpt",
            [
                ("GrpHdr", [("MsgId", msg_id), ("CreDtTm", report.created)]),
                ("OrgnlGrpInfAndSts", group),
                ("TxInfAndSts", transaction),
            ],
        )
    ]


def _agent(agent: Agent) -> list[_Element]:
    member: list[_Element] = []
    if agent.member_id:
        member = [("ClrSysId", [("Cd", _text(agent.clearing_system))]), ("MmbId", _text(agent.member_id))]
    return [("FinInstnId", [("BICFI", agent.bic), ("ClrSysMmbId", member)])]


def _header(request: Header, report: Report, msg_id: str) -> list[_Element]:
    sender, receiver = request.sender, request.receiver
    if report.toward is Toward.DEBTOR_AGENT:
        sender, receiver = receiver, sender
    own: list[_Element] = [("FIId", [("FinInstnId", [("BICFI", _text(report.bic))])])]
    return [
        ("Fr", own if report.bic else sender),
        ("To", receiver),
        ("BizMsgIdr", msg_id),
        ("MsgDefIdr", TYPE),
        ("BizSvc", _text(request.service)),
        ("CreDt", report.header_created),
    ]
