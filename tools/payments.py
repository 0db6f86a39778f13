"""Reading ISO 20022 payments by the local names of their elements, whatever envelope and prefixes they have.

For the simulated bank and the auditor: the switch's own parser is not used, so that it is judged by another.
"""

from decimal import Decimal, InvalidOperation

import msgspec
from lxml import etree

# ISO 4217 currencies whose minor unit is not a hundredth
EXPONENTS = {
    **dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "UGX", "VND", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}

_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)


class PaymentError(Exception):
    """Bytes that are no pacs.008 or pacs.002 with one transaction. Holds no content of the message."""


class Transfer(msgspec.Struct, frozen=True):
    """A pacs.008 with one transaction. amount: minor units."""

    type: str
    msg_id: str
    end_to_end_id: str
    uetr: str
    amount: int
    currency: str
    creditor_account: str
    root: etree._Element
    message: "Walk"  # FIToFICstmrCdtTrf

    @property
    def key(self) -> tuple[str, str]:
        return self.end_to_end_id, self.uetr


class Status(msgspec.Struct, frozen=True):
    """A pacs.002 on one transaction. amount: of OrgnlTxRef, where it is told."""

    type: str
    msg_id: str  # of the original
    end_to_end_id: str
    uetr: str
    status: str
    reason: str
    amount: int | None

    @property
    def key(self) -> tuple[str, str]:
        return self.end_to_end_id, self.uetr

    @property
    def code(self) -> str:
        """Status, or status and reason: "RJCT/AC04"."""
        return f"{self.status}/{self.reason}" if self.reason else self.status


def read_payment(payload: bytes) -> Transfer | Status:
    """Read one message. Raises PaymentError."""
    try:
        root = etree.fromstring(payload, _PARSER)
    except etree.XMLSyntaxError as error:
        raise PaymentError(f"not well-formed XML at line {error.lineno}") from None
    for element in root.iter("{*}FIToFICstmrCdtTrf", "{*}FIToFIPmtStsRpt"):
        namespace, _, name = str(element.tag)[1:].rpartition("}")
        message = Walk(element, f"{{{namespace}}}")
        type = namespace.rpartition(":")[2]
        return _transfer(root, message, type) if name == "FIToFICstmrCdtTrf" else _status(message, type)
    raise PaymentError("neither a credit transfer nor a status report")


class Walk:
    """An element, found below another by names in its namespace. Cheaper than lxml's paths; falsy when absent."""

    __slots__ = ("element", "prefix")

    def __init__(self, element: etree._Element | None, prefix: str) -> None:
        self.element = element
        self.prefix = prefix

    def __bool__(self) -> bool:
        return self.element is not None

    def to(self, *names: str) -> "Walk":
        element = self.element
        for name in names:
            if element is None:
                break
            element = next(element.iterchildren(self.prefix + name), None)
        return Walk(element, self.prefix)

    def text(self, *names: str) -> str:
        """The text, stripped; "" when absent."""
        element = self.to(*names).element
        return (element.text or "").strip() if element is not None else ""

    def all_text(self) -> str:
        """The text with that of everything below."""
        return "".join(self.element.itertext()).strip() if self.element is not None else ""

    def amount(self) -> tuple[int, str]:
        """Minor units and currency. Raises PaymentError when absent."""
        if self.element is None:
            raise PaymentError("no IntrBkSttlmAmt")
        currency = self.element.get("Ccy", "")
        return minor_units(self.element.text or "", currency), currency


def _transfer(root: etree._Element, message: Walk, type: str) -> Transfer:
    transaction = _only_one(message, "CdtTrfTxInf")
    if not transaction:
        raise PaymentError("no transaction")
    references = transaction.to("PmtId")
    amount, currency = transaction.to("IntrBkSttlmAmt").amount()
    return Transfer(
        type,
        message.text("GrpHdr", "MsgId"),
        references.text("EndToEndId"),
        references.text("UETR"),
        amount,
        currency,
        transaction.to("CdtrAcct", "Id").all_text(),
        root,
        message,
    )


def _status(message: Walk, type: str) -> Status:
    transaction = _only_one(message, "TxInfAndSts")
    group = message.to("OrgnlGrpInfAndSts")
    amount = transaction.to("OrgnlTxRef", "IntrBkSttlmAmt")
    return Status(
        type,
        group.text("OrgnlMsgId") or transaction.text("OrgnlGrpInf", "OrgnlMsgId"),
        transaction.text("OrgnlEndToEndId"),
        transaction.text("OrgnlUETR"),
        transaction.text("TxSts") or group.text("GrpSts"),
        (transaction.to("StsRsnInf", "Rsn") or group.to("StsRsnInf", "Rsn")).all_text(),
        amount.amount()[0] if amount else None,
    )


def _only_one(message: Walk, name: str) -> Walk:
    """The one element of this name; an absent one when there is none. Raises PaymentError when there are more."""
    found = message.to(name)
    if found and next(found.element.itersiblings(message.prefix + name), None) is not None:
        raise PaymentError("more than one transaction")
    return found


def minor_units(text: str, currency: str) -> int:
    """1250 of "12.50", "EUR". Raises PaymentError for what is no amount or finer than the currency's minor unit."""
    try:
        units = Decimal(text.strip()).scaleb(EXPONENTS.get(currency, 2))
    except InvalidOperation:
        raise PaymentError("an amount that is no number") from None
    if units != units.to_integral_value():
        raise PaymentError(f"an amount finer than the minor unit of {currency}")
    return int(units)
