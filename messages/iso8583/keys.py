"""Keys: the values of a few fields, by which a message is known among others."""

import re
from collections.abc import Container, Mapping

INSTITUTIONS = (32, 33)  # DE90 fills these identifications with zeros on the left


def field_numbers(
    names: tuple[str, ...], what: str, known: Container[int], *, stan_alone: bool = False
) -> tuple[int, ...]:
    """Those fields of a key that the dialect has. Raises ValueError when they cannot identify a message.

    stan_alone: DE11 is enough, since only one such message waits for its answer on a session.
    """
    if not all(re.fullmatch("[1-9][0-9]{0,2}", name) for name in names):
        raise ValueError(f'{what}: fields are numbers like "11"')
    numbers = tuple(sorted({int(name) for name in names if int(name) in known}))
    if stan_alone and not numbers:
        raise ValueError(f"{what}: no field of the dialect: an answer could not be told from another")
    if not stan_alone and not set(numbers) - {11}:
        raise ValueError(f"{what}: no field but DE11, which is reused within a day, and so identifies no message")
    return numbers


def key_of(prefix: str, fields: Mapping[int, str], numbers: tuple[int, ...]) -> bytes:
    """Values without the blanks that fill fixed fields, since an answer may be filled otherwise than its request."""
    get = fields.get
    for number in numbers:
        prefix += "|" + get(number, "").strip()
    return prefix.encode()


def unfilled(fields: Mapping[int, str]) -> dict[int, str]:
    """The fields with institutions as a key compares them with DE90."""
    return {**fields, **{number: fields[number].lstrip("0") for number in INSTITUTIONS if number in fields}}
