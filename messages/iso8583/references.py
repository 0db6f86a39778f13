"""What names a message later at its receiver: kept of each forward, and written into DE90 (1987) or DE56 (1993, 2003).

ISO 8583:1987 DE90: MTI, STAN, DE7, DE32 and DE33, n42 with zeros on the left of each. 1993 DE56: MTI, STAN, DE12
(YYMMDDhhmmss) and DE32 with its length; in 2003 a STAN of 12 digits and a DE12 of 14. Widths are the dialect's.
"""

from collections.abc import Mapping

import msgspec

from messages.iso8583.dialect import Dialect
from messages.message import MessageError


class Reference(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of a message as it was sent: values of fields, "" where it had none."""

    mti: str
    stan: str
    transmission: str  # DE7
    local_time: str  # DE12
    acquirer_id: str  # DE32
    forwarder_id: str  # DE33
    retrieval: str  # DE37
    date: str  # DE15

    def __repr__(self) -> str:
        return f"Reference({self.mti})"


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Reference)


def reference_of(mti: str, fields: Mapping[int, str]) -> bytes:
    """The reference of a message with these fields."""
    get = fields.get
    # in the order of Reference
    return _encode((mti, get(11, ""), get(7, ""), get(12, ""), get(32, ""), get(33, ""), get(37, ""), get(15, "")))


def read_reference(data: bytes) -> Reference:
    """Raises MessageError for what is no reference."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise MessageError("not a reference of an ISO 8583 message") from None


def original_data_parts(number: int, dialect: Dialect) -> tuple[str, ...]:
    """The names of the parts of DE90 or DE56; none where the dialect has no such field, or does not divide it."""
    field = dialect.fields.get(number)
    return () if field is None else tuple(name for name, _ in field.spec.subfields)


def original_data(reference: Reference, number: int, dialect: Dialect) -> str:
    """The value of DE90 or DE56 that names this message. Raises MessageError when the dialect's cannot hold it."""
    # a dialect of one's own may have other parts
    values = {name: getattr(reference, name, "") for name in original_data_parts(number, dialect)}
    return dialect.join_subfields(number, values)


def named_fields(number: int, value: str, dialect: Dialect) -> dict[int, str]:
    """Data elements of the original that DE90 or DE56 gives. Raises MessageError when its parts do not fit."""
    parts = dialect.subfields(number, value)
    return {field: parts[name] for name, field in _NUMBERS.items() if name in parts}


_NUMBERS = {"stan": 11, "transmission": 7, "local_time": 12, "acquirer_id": 32, "forwarder_id": 33}
