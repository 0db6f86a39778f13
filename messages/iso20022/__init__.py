"""ISO 20022 credit transfers: hardened parsing, our own message definitions, validation, status reports."""

from messages.iso20022.codec import Iso20022Codec
from messages.iso20022.options import Iso20022Options
from messages.iso20022.parsing import BusinessMessage, parse
from messages.iso20022.schemas import Schemas, load_schemas

__all__ = ["BusinessMessage", "Iso20022Codec", "Iso20022Options", "Schemas", "load_schemas", "parse"]
