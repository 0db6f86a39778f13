"""What the journal may say of a message: columns without sensitive data, whatever its wire format."""

import msgspec

TEXT_MAX = 64
NUMBER_MAX = (1 << 63) - 1  # what a database's largest integer holds


class Facts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request or advice and how it was decided. "" and None: it does not say."""

    type: str = ""  # MTI, or message type ("pacs.008.001.08")
    processing_code: str = ""
    pan: str = ""  # masked
    amount: int | None = None  # minor units, as requested
    approved_amount: int | None = None  # as the answer says, where it differs: a partial approval
    currency: str = ""  # as on the wire
    stan: str = ""  # the source's own
    rrn: str = ""
    transmission: str = ""  # DE7
    local_time: str = ""  # DE12 (and DE13 of 1987)
    terminal: str = ""
    merchant: str = ""
    acquirer: str = ""
    approval_code: str = ""
    message_id: str = ""
    end_to_end_id: str = ""
    uetr: str = ""
    instructing_agent: str = ""
    instructed_agent: str = ""

    def __repr__(self) -> str:
        return f"Facts({self.type})"


def masked(pan: str) -> str:
    """The first six and last four digits (PCI DSS 4.0, 3.4.1); of what is too short for a PAN nothing."""
    if len(pan) < 13:
        return "*" * len(pan)
    return f"{pan[:6]}{'*' * (len(pan) - 10)}{pan[-4:]}"


def text(value: str) -> str:
    """A value that any database takes: printable (PostgreSQL refuses NUL), without the blanks that fill it, bounded."""
    return "".join(c if c.isprintable() else "?" for c in value.strip()[:TEXT_MAX])
