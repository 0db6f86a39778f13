"""Test cards: Luhn-valid PANs of several 8-digit BINs, with expiry, sequence number and track 2."""

import random

import msgspec

# 8-digit BINs of the test ranges in use: four schemes' first digits, two issuers each
BINS = ("41000012", "47111208", "51000034", "22230056", "60110078", "63990090", "67990011", "35280022")


class Card(msgspec.Struct, frozen=True):
    """One card. Its repr holds nothing of it."""

    pan: str
    expiry: str  # YYMM
    sequence: str  # three digits
    track2: str

    def __repr__(self) -> str:
        return "Card()"


def luhn_digit(digits: str) -> str:
    """The check digit of ISO/IEC 7812-1 annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 if place % 2 else 2)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def issue_cards(count: int, dice: random.Random) -> list[Card]:
    """`count` different cards, spread over the BINs."""
    cards = []
    for number in range(count):
        body = f"{BINS[number % len(BINS)]}{dice.randrange(10**3):03d}{number:04d}"
        pan = body + luhn_digit(body)
        expiry = f"{dice.randrange(29, 33)}{dice.randrange(1, 13):02d}"
        track2 = f"{pan}={expiry}201{dice.randrange(10**10):010d}"
        cards.append(Card(pan, expiry, f"{dice.randrange(1, 4):03d}", track2))
    return cards
