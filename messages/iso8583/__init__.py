"""ISO 8583: dialects, decoding and encoding over pyiso8583, and the codec of a link."""

from messages.iso8583.codec import Iso8583Codec
from messages.iso8583.dialect import Dialect, Iso8583
from messages.iso8583.loader import load_dialect, shipped_dialects
from messages.iso8583.options import Iso8583Options

__all__ = ["Dialect", "Iso8583", "Iso8583Codec", "Iso8583Options", "load_dialect", "shipped_dialects"]
