"""What one ISO 20022 link is configured with."""

from typing import Literal

import msgspec

from messages.iso20022.parsing import MAXIMUM_BYTES
from messages.message import Reason

Reference = Literal["msg_id", "instr_id", "end_to_end_id", "tx_id", "uetr"]
KeyPart = Literal["instg_agt", "msg_id", "instr_id", "end_to_end_id", "tx_id", "uetr"]

# ExternalStatusReason1Code of the ISO 20022 External Code Sets (iso20022.org).
RESPONSE_CODES: dict[Reason, str] = {
    Reason.NO_ROUTE: "RC04",  # InvalidCreditorBankIdentifier
    Reason.LINK_DOWN: "AB08",  # OfflineCreditorAgent
    Reason.TIMEOUT: "AB05",  # TimeoutCreditorAgent
    Reason.TOO_OLD: "TM01",  # InvalidCutOffTime: received after the agreed time
    Reason.FORMAT: "FF01",  # InvalidFileFormat
    Reason.DUPLICATE: "AM05",  # Duplication
    Reason.OVERLOAD: "MS03",  # NotSpecifiedReasonAgentGenerated
    Reason.MALFUNCTION: "AB02",  # AbortedClearingFatalError
    Reason.UNDELIVERABLE: "AB07",  # OfflineAgent: of no particular agent
    Reason.REVERSED: "CUST",  # RequestedByCustomer
    Reason.NOT_REVERSIBLE: "AG01",  # TransactionForbidden
    Reason.PARTIAL: "AM09",  # WrongAmount: received amount is not the amount agreed
    Reason.STAND_IN: "AB08",  # OfflineCreditorAgent
}


class Iso20022Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `iso20022` table of a link's configuration. Statuses are codes of ExternalPaymentTransactionStatus1Code."""

    schema_dir: str | None = None  # folder of .xsd files that add to the shipped definitions or replace them
    maximum: int = MAXIMUM_BYTES  # bytes of one message
    match: tuple[Reference, ...] = ("msg_id", "end_to_end_id")  # what an answer is matched by
    duplicate: tuple[KeyPart, ...] = ("instg_agt", "msg_id", "end_to_end_id")  # what makes two requests the same one
    response_codes: dict[Reason, str] = msgspec.field(default_factory=dict)  # replaces entries of RESPONSE_CODES
    approved: tuple[str, ...] = ("ACSC", "ACCC", "ACCP", "ACSP", "ACTC", "ACWC", "ACWP")
    interim: tuple[str, ...] = ("PDNG", "RCVD")
    declined: tuple[str, ...] = ("RJCT", "CANC", "BLCK")
    timeout_profile: Literal["reject", "pending"] = "reject"  # pending: a timeout leaves the payment open (PDNG)
    reversal_code: str = "AB05"  # reason of the negative confirmation to the creditor's agent
    bic: str = ""  # our own: AppHdr/Fr and InstgAgt of messages made here; "" takes the receiver named by the request
    wrapper: tuple[str, ...] = ()  # Clark names around messages made here; () repeats those of the request
