"""Amounts of ISO 20022 (decimal text and an ISO 4217 alphabetic code) as minor units."""

from decimal import Decimal

from messages.facts import NUMBER_MAX
from messages.message import MessageError

# Currencies whose minor unit is not a hundredth: ISO 4217:2015, list one (published by SIX), column "minor unit".
_EXPONENTS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}


def minor_units(text: str, currency: str, field: str) -> int:
    """"12.30" EUR is 1230. A currency that is not in the table has two decimals.

    Raises MessageError naming `field` for an amount with more decimals than its currency, or larger than NUMBER_MAX.
    """
    scaled = Decimal(text.strip()).scaleb(_EXPONENTS.get(currency, 2))
    units = int(scaled)
    if units != scaled:
        raise MessageError("more decimals than the currency has", field)
    return within(units, field)


def within(units: int, field: str) -> int:
    """The schemas allow 18 digits, and any number of transactions in a message: what no record holds is refused."""
    if units > NUMBER_MAX:
        raise MessageError("an amount is too large", field)
    return units
