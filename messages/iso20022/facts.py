"""What the switch needs to know of a pacs.008 and a pacs.002, read from the validated tree by direct walks."""

from collections.abc import Iterator

import msgspec
from lxml import etree

from messages.iso20022.amounts import minor_units
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
    """Finds children by local name in the namespace of one Document."""

    def __init__(self, document: etree._Element) -> None:
        self._prefix = str(document.tag)[: -len("Document")]

    def all(self, element: etree._Element, name: str) -> Iterator[etree._Element]:
        return element.iterchildren(self._prefix + name)

    def find(self, element: etree._Element | None, *names: str) -> etree._Element | None:
        for name in names:
            if element is None:
                return None
            element = next(element.iterchildren(self._prefix + name), None)
        return element

    def text(self, element: etree._Element | None, *names: str) -> str:
        found = self.find(element, *names)
        return (found.text or "") if found is not None else ""

    def agent(self, *elements: etree._Element | None) -> Agent:
        """The first of these agents that is there."""
        for element in elements:
            institution = self.find(element, "FinInstnId")
            if institution is not None:
                member = self.find(institution, "ClrSysMmbId")
                return Agent(
                    self.text(institution, "BICFI"),
                    self.text(member, "ClrSysId", "Cd"),
                    self.text(member, "MmbId"),
                )
        return Agent()


def read_credit_transfer(message: BusinessMessage) -> CreditTransfer:
    """The facts of a pacs.008.

    Raises MessageError when NbOfTxs is not the number of transactions, or when transactions differ in creditor agent or
    currency: the switch routes a file as a whole.
    """
    read = _Reader(message.document)
    body = message.document[0]
    header = read.find(body, "GrpHdr")
    transactions = list(read.all(body, "CdtTrfTxInf"))
    path = f"/Document/{etree.QName(body).localname}"
    if int(read.text(header, "NbOfTxs")) != len(transactions):
        raise MessageError("is not the number of transactions", f"{path}/GrpHdr/NbOfTxs")
    agents = {read.agent(read.find(each, "CdtrAgt")) for each in transactions}
    if len(agents) != 1:
        raise MessageError("transactions for different creditor agents in one message", f"{path}/CdtTrfTxInf/CdtrAgt")
    currency, amount = _total(read, transactions, f"{path}/CdtTrfTxInf/IntrBkSttlmAmt")
    first = transactions[0]
    msg_id = read.text(header, "MsgId")
    identification = read.find(first, "PmtId")
    return CreditTransfer(
        references=References(msg_id)
        if len(transactions) > 1
        else References(
            msg_id,
            read.text(identification, "InstrId"),
            read.text(identification, "EndToEndId"),
            read.text(identification, "TxId"),
            read.text(identification, "UETR"),
        ),
        created=read.text(header, "CreDtTm").strip(),
        count=len(transactions),
        instructing=read.agent(read.find(header, "InstgAgt"), read.find(first, "InstgAgt")),
        instructed=read.agent(read.find(header, "InstdAgt"), read.find(first, "InstdAgt")),
        creditor_agent=agents.pop(),
        currency=currency,
        amount=amount,
    )


def _total(read: _Reader, transactions: list[etree._Element], path: str) -> tuple[str, int]:
    total = 0
    currencies = set()
    for each in transactions:
        amount = read.find(each, "IntrBkSttlmAmt")
        assert amount is not None  # the schema requires it
        currency = amount.get("Ccy", "")
        currencies.add(currency)
        total += minor_units(amount.text or "", currency, path)
    if len(currencies) != 1:
        raise MessageError("transactions in different currencies in one message", path)
    return currencies.pop(), total


def read_status_report(message: BusinessMessage) -> StatusReport:
    """The facts of a pacs.002.

    Raises MessageError for a report without a status, or one on several original messages: an answer decides one request.
    """
    read = _Reader(message.document)
    body = message.document[0]
    header = read.find(body, "GrpHdr")
    groups = list(read.all(body, "OrgnlGrpInfAndSts"))
    transactions = list(read.all(body, "TxInfAndSts"))
    path = f"/Document/{etree.QName(body).localname}"
    originals = {read.text(group, "OrgnlMsgId") for group in groups}
    originals |= {read.text(each, "OrgnlGrpInf", "OrgnlMsgId") for each in transactions} - {""}
    if len(originals) > 1:
        raise MessageError("reports on several messages", path)
    statuses = tuple(filter(None, (read.text(each, "TxSts") for each in transactions)))
    statuses = statuses or tuple(filter(None, (read.text(group, "GrpSts") for group in groups)))
    if not statuses:
        raise MessageError("no status", path)
    msg_id = originals.pop() if originals else ""
    single = transactions[0] if len(transactions) == 1 else None
    reasons = (read.text(each, "StsRsnInf", "Rsn", "Cd") for each in (*transactions, *groups))
    return StatusReport(
        references=References(
            msg_id,
            read.text(single, "OrgnlInstrId"),
            read.text(single, "OrgnlEndToEndId"),
            read.text(single, "OrgnlTxId"),
            read.text(single, "OrgnlUETR"),
        ),
        msg_id=read.text(header, "MsgId"),
        instructing=read.agent(read.find(header, "InstgAgt"), read.find(single, "InstgAgt")),
        statuses=statuses,
        reason=next(filter(None, reasons), ""),
    )
