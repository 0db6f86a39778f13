"""What the switch needs to know of a pacs.008 and a pacs.002, read from the validated tree by direct walks."""

import msgspec
from lxml import etree

from messages.iso20022.amounts import minor_units, within
from messages.iso20022.parsing import BusinessMessage
from messages.message import MessageError


class References(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The identifications of one transaction ("" where absent); in a pacs.002, those of the original."""

    msg_id: str = ""
    instr_id: str = ""
    end_to_end_id: str = ""
    tx_id: str = ""
    uetr: str = ""


class Agent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A financial institution, by BIC or by its member identification in a clearing system ("USABA")."""

    bic: str = ""
    clearing_system: str = ""
    member_id: str = ""

    @property
    def identity(self) -> str:
        """The BIC, else the member identification."""
        return self.bic or self.member_id


class CreditTransfer(msgspec.Struct, frozen=True, gc=False):
    """A pacs.008. Of several transactions `references` has only what they share: the message identification."""

    references: References
    created: str  # GrpHdr/CreDtTm as it stands
    count: int
    instructing: Agent
    instructed: Agent
    creditor_agent: Agent
    currency: str
    amount: int  # minor units, summed


class StatusReport(msgspec.Struct, frozen=True, gc=False):
    """A pacs.002 on one original message."""

    references: References  # of the original
    msg_id: str  # its own
    instructing: Agent
    statuses: tuple[str, ...]  # of its transactions, else of the group
    reason: str  # the first status reason code


class _Reader:
    """Reads children by local name in the namespace of one Document."""

    def __init__(self, document: etree._Element) -> None:
        self._prefix = str(document.tag)[: -len("Document")]

    def all(self, element: etree._Element, name: str) -> list[etree._Element]:
        return list(element.iterchildren(self._prefix + name))

    def children(self, element: etree._Element | None) -> dict[str, etree._Element]:
        """By local name; of those that repeat the last. One pass costs less than three searches."""
        skip = len(self._prefix)
        return {str(child.tag)[skip:]: child for child in element} if element is not None else {}

    def text(self, element: etree._Element | None, *names: str) -> str:
        """The value at a path, taking the first of children that repeat; "" where there is none."""
        for name in names:
            if element is None:
                return ""
            element = next(element.iterchildren(self._prefix + name), None)
        return _text(element)

    def agent(self, *elements: etree._Element | None) -> Agent:
        """The first of these agents that is there."""
        for element in elements:
            if element is not None:
                institution = self.children(element[0])  # FinInstnId comes first and is required
                member = institution.get("ClrSysMmbId")
                return Agent(
                    _text(institution.get("BICFI")),
                    self.text(member, "ClrSysId", "Cd"),
                    self.text(member, "MmbId"),
                )
        return Agent()


def _text(element: etree._Element | None) -> str:
    return (element.text or "") if element is not None else ""


def read_credit_transfer(message: BusinessMessage) -> CreditTransfer:
    """The facts of a pacs.008.

    Raises MessageError when NbOfTxs is not the number of transactions, or when transactions differ in creditor agent or
    currency: the switch routes a file as a whole.
    """
    read = _Reader(message.document)
    body = message.document[0]
    path = f"/Document/{etree.QName(body).localname}"
    header = read.children(body[0])
    transactions = [read.children(each) for each in read.all(body, "CdtTrfTxInf")]
    if int(_text(header["NbOfTxs"])) != len(transactions):
        raise MessageError("is not the number of transactions", f"{path}/GrpHdr/NbOfTxs")
    agents = {read.agent(each["CdtrAgt"]) for each in transactions}
    if len(agents) != 1:
        raise MessageError("transactions for different creditor agents in one message", f"{path}/CdtTrfTxInf/CdtrAgt")
    currency, amount = _total([each["IntrBkSttlmAmt"] for each in transactions], f"{path}/CdtTrfTxInf/IntrBkSttlmAmt")
    first = transactions[0]
    identification = read.children(first["PmtId"] if len(transactions) == 1 else None)
    return CreditTransfer(
        references=References(
            _text(header["MsgId"]),
            _text(identification.get("InstrId")),
            _text(identification.get("EndToEndId")),
            _text(identification.get("TxId")),
            _text(identification.get("UETR")),
        ),
        created=_text(header["CreDtTm"]).strip(),
        count=len(transactions),
        instructing=read.agent(header.get("InstgAgt"), first.get("InstgAgt")),
        instructed=read.agent(header.get("InstdAgt"), first.get("InstdAgt")),
        creditor_agent=agents.pop(),
        currency=currency,
        amount=amount,
    )


def _total(amounts: list[etree._Element], path: str) -> tuple[str, int]:
    """The currency of all and their sum in minor units."""
    currencies = {amount.get("Ccy", "") for amount in amounts}
    if len(currencies) != 1:
        raise MessageError("transactions in different currencies in one message", path)
    currency = currencies.pop()
    return currency, within(sum(minor_units(_text(amount), currency, path) for amount in amounts), path)


def read_status_report(message: BusinessMessage) -> StatusReport:
    """The facts of a pacs.002.

    Raises MessageError for a report without a status, or on several original messages: an answer decides one request.
    """
    read = _Reader(message.document)
    body = message.document[0]
    path = f"/Document/{etree.QName(body).localname}"
    header = read.children(body[0])
    groups = read.all(body, "OrgnlGrpInfAndSts")
    transactions = read.all(body, "TxInfAndSts")
    originals = {read.text(group, "OrgnlMsgId") for group in groups}
    originals |= {read.text(each, "OrgnlGrpInf", "OrgnlMsgId") for each in transactions} - {""}
    if len(originals) > 1:
        raise MessageError("reports on several messages", path)
    statuses = tuple(filter(None, (read.text(each, "TxSts") for each in transactions)))
    statuses = statuses or tuple(filter(None, (read.text(group, "GrpSts") for group in groups)))
    if not statuses:
        raise MessageError("no status", path)
    single = read.children(transactions[0] if len(transactions) == 1 else None)
    reasons = (read.text(each, "StsRsnInf", "Rsn", "Cd") for each in (*transactions, *groups))
    return StatusReport(
        references=References(
            originals.pop() if originals else "",
            _text(single.get("OrgnlInstrId")),
            _text(single.get("OrgnlEndToEndId")),
            _text(single.get("OrgnlTxId")),
            _text(single.get("OrgnlUETR")),
        ),
        msg_id=_text(header["MsgId"]),
        instructing=read.agent(header.get("InstgAgt"), single.get("InstgAgt")),
        statuses=statuses,
        reason=next(filter(None, reasons), ""),
    )
