"""Writes the simulated bank's pacs.002 as text: what it refers to is taken over from the pacs.008 as it stands."""

from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from tools.payments import Transfer, Walk

STATUS_TYPE = "pacs.002.001.10"  # the status report of the same release as pacs.008.001.08
NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:"


def status_report(
    transfer: Transfer, status: str, reason: str, msg_id: str, end_to_end_id: str, report_id: str, now: str
) -> bytes:
    """One pacs.002 with one transaction, in the request's envelope and with an AppHdr if the request had one."""
    document = _document(transfer, status, reason, msg_id, end_to_end_id, report_id, now)
    header = next(transfer.root.iter("{*}AppHdr"), None)
    if header is not None:
        namespace, _, name = str(transfer.root.tag).lstrip("{").rpartition("}")
        document = (
            f"<{name} xmlns={quoteattr(namespace)}>{_application_header(header, report_id, now)}{document}</{name}>"
        )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{document}'.encode()


def _document(
    transfer: Transfer, status: str, reason: str, msg_id: str, end_to_end_id: str, report_id: str, now: str
) -> str:
    group, transaction = transfer.message.to("GrpHdr"), transfer.message.to("CdtTrfTxInf")
    references = transaction.to("PmtId")
    agents = transaction if transaction.to("InstgAgt") else group
    outcome = f"<StsRsnInf><Rsn><Cd>{reason}</Cd></Rsn></StsRsnInf>" if reason else f"<AccptncDtTm>{now}</AccptncDtTm>"
    return (
        f'<Document xmlns="{NAMESPACE}{STATUS_TYPE}"><FIToFIPmtStsRpt>'
        f"<GrpHdr><MsgId>{report_id}</MsgId><CreDtTm>{now}</CreDtTm>"
        f"{_copy(agents.to('InstdAgt'), 'InstgAgt')}{_copy(agents.to('InstgAgt'), 'InstdAgt')}</GrpHdr>"
        f"<OrgnlGrpInfAndSts><OrgnlMsgId>{escape(msg_id)}</OrgnlMsgId><OrgnlMsgNmId>{transfer.type}</OrgnlMsgNmId>"
        f"{_copy(group.to('CreDtTm'), 'OrgnlCreDtTm')}<OrgnlNbOfTxs>1</OrgnlNbOfTxs></OrgnlGrpInfAndSts>"
        f"<TxInfAndSts><StsId>{report_id}</StsId>{_copy(references.to('InstrId'), 'OrgnlInstrId')}"
        f"<OrgnlEndToEndId>{escape(end_to_end_id)}</OrgnlEndToEndId>{_copy(references.to('TxId'), 'OrgnlTxId')}"
        f"{_copy(references.to('UETR'), 'OrgnlUETR')}<TxSts>{status}</TxSts>{outcome}"
        f"<OrgnlTxRef>{_copy(transaction.to('IntrBkSttlmAmt'))}{_copy(transaction.to('IntrBkSttlmDt'))}</OrgnlTxRef>"
        "</TxInfAndSts></FIToFIPmtStsRpt></Document>"
    )


def _application_header(request: etree._Element, report_id: str, now: str) -> str:
    """The answer's AppHdr: from and to swapped, the request's own as related (which has no market practice)."""
    namespace = str(request.tag)[1:].partition("}")[0]
    walk = Walk(request, f"{{{namespace}}}")
    service = _copy(walk.to("BizSvc"))
    message = f"{_copy(walk.to('BizMsgIdr'))}{_copy(walk.to('MsgDefIdr'))}"
    return (
        f'<AppHdr xmlns="{namespace}">{_copy(walk.to("To"), "Fr")}{_copy(walk.to("Fr"), "To")}'
        f"<BizMsgIdr>{report_id}</BizMsgIdr><MsgDefIdr>{STATUS_TYPE}</MsgDefIdr>{service}{_copy(walk.to('MktPrctc'))}"
        f"<CreDt>{now}</CreDt><Rltd>{_copy(walk.to('Fr'))}{_copy(walk.to('To'))}{message}{service}"
        f"{_copy(walk.to('CreDt'))}</Rltd></AppHdr>"
    )


def _copy(walk: Walk, name: str = "") -> str:
    """An element as text without prefixes, under another name if one is given; "" when absent."""
    return _written(walk.element, name) if walk.element is not None else ""


def _written(element: etree._Element, name: str = "") -> str:
    name = name or str(element.tag).rpartition("}")[2]
    attributes = "".join([f" {key}={quoteattr(value)}" for key, value in element.items()])
    inside = "".join(map(_written, element)) if len(element) else escape((element.text or "").strip())
    return f"<{name}{attributes}>{inside}</{name}>"
