"""What is remembered of a pacs.008 to answer or undo it: references, agents, and the form it came in."""

import msgspec
from lxml import etree

from messages.iso20022.facts import Agent, CreditTransfer, References
from messages.iso20022.parsing import BusinessMessage
from messages.message import MessageError


class Header(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The AppHdr of a request. Parties are what stood inside Fr and To, as XML: they have many forms."""

    namespace: str
    sender: str
    receiver: str
    service: str  # BizSvc
    created: str  # CreDt as it stands


class Original(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request; encoded as a msgpack array."""

    type: str
    created: str
    count: int
    references: References
    instructing: Agent
    instructed: Agent
    wrapper: tuple[str, ...]
    header: Header | None

    def encode(self) -> bytes:
        """As bytes for the log."""
        return _ENCODER.encode(self)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Original)


def remember(message: BusinessMessage, transfer: CreditTransfer) -> Original:
    """What is kept of a request. Raises MessageError for a party of the AppHdr that has no canonical form."""
    return Original(
        message.type,
        transfer.created,
        transfer.count,
        transfer.references,
        transfer.instructing,
        transfer.instructed,
        message.wrapper,
        _header(message.header),
    )


def recall(original: bytes) -> Original:
    """The inverse of Original.encode. Raises MessageError for anything else."""
    try:
        return _DECODER.decode(original)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # msgspec lets the latter two through
        raise MessageError("not a record of an ISO 20022 message") from None


def _header(header: etree._Element | None) -> Header | None:
    if header is None:
        return None
    children = {etree.QName(child).localname: child for child in header}
    service = children.get("BizSvc")
    return Header(
        etree.QName(header).namespace or "",
        _inside(children["Fr"]),
        _inside(children["To"]),
        (service.text or "") if service is not None else "",
        (children["CreDt"].text or "").strip(),
    )


def _inside(party: etree._Element) -> str:
    """The children in exclusive canonical form: it declares the namespaces it uses, so it stands anywhere."""
    try:
        return "".join(etree.tostring(child, method="c14n", exclusive=True, with_tail=False).decode() for child in party)
    except etree.C14NError:
        raise MessageError("relative namespace name", f"/AppHdr/{etree.QName(party).localname}") from None
