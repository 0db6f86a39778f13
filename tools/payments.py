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
        name = etree.QName(element)
        type = (name.namespace or "").rpartition(":")[2]
        return _transfer(root, element, type) if name.localname == "FIToFICstmrCdtTrf" else _status(element, type)
    raise PaymentError("neither a credit transfer nor a status report")


def _transfer(root: etree._Element, body: etree._Element, type: str) -> Transfer:
    transactions = body.findall("{*}CdtTrfTxInf")
    if len(transactions) != 1:
        raise PaymentError(f"{len(transactions)} transactions")
    (transaction,) = transactions
    amount = transaction.find("{*}IntrBkSttlmAmt")
    if amount is None:
        raise PaymentError("no IntrBkSttlmAmt")
    currency = amount.get("Ccy", "")
    account = transaction.find("{*}CdtrAcct/{*}Id")
    return Transfer(
        type,
        body.findtext("{*}GrpHdr/{*}MsgId", ""),
        transaction.findtext("{*}PmtId/{*}EndToEndId", ""),
        transaction.findtext("{*}PmtId/{*}UETR", ""),
        minor_units(amount.text or "", currency),
        currency,
        "".join(account.itertext()).strip() if account is not None else "",
        root,
    )


def _status(body: etree._Element, type: str) -> Status:
    transactions = body.findall("{*}TxInfAndSts")
    if len(transactions) > 1:
        raise PaymentError(f"{len(transactions)} transactions")
    transaction = transactions[0] if transactions else body
    group = body.find("{*}OrgnlGrpInfAndSts")
    group = transaction.find("{*}OrgnlGrpInf") if group is None else group
    amount = transaction.find("{*}OrgnlTxRef/{*}IntrBkSttlmAmt")
    reason = transaction.find("{*}StsRsnInf/{*}Rsn")
    if group is not None and reason is None:
        reason = group.find("{*}StsRsnInf/{*}Rsn")
    return Status(
        type,
        group.findtext("{*}OrgnlMsgId", "") if group is not None else "",
        transaction.findtext("{*}OrgnlEndToEndId", ""),
        transaction.findtext("{*}OrgnlUETR", ""),
        transaction.findtext("{*}TxSts") or (group.findtext("{*}GrpSts", "") if group is not None else ""),
        "".join(reason.itertext()).strip() if reason is not None else "",
        None if amount is None else minor_units(amount.text or "", amount.get("Ccy", "")),
    )


def minor_units(text: str, currency: str) -> int:
    """1250 of "12.50", "EUR". Raises PaymentError for what is no amount or finer than the currency's minor unit."""
    try:
        units = Decimal(text.strip()).scaleb(EXPONENTS.get(currency, 2))
    except InvalidOperation:
        raise PaymentError("an amount that is no number") from None
    if units != units.to_integral_value():
        raise PaymentError(f"an amount finer than the minor unit of {currency}")
    return int(units)
