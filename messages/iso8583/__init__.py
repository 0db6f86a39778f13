"""ISO 8583: dialects, decoding and encoding over pyiso8583, and the codec of a link."""

from messages.iso8583.dialect import Dialect, Iso8583
from messages.iso8583.loader import load_dialect, shipped_dialects

__all__ = ["Dialect", "Iso8583", "load_dialect", "shipped_dialects"]
