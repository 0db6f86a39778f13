"""Whether a simulated issuer or bank approves: by the end of the account's number and by the amount."""

import msgspec


class DeclineRules(msgspec.Struct, frozen=True):
    """endings: (last digits of the PAN or account, code it is declined with). above: a limit in minor units."""

    endings: tuple[tuple[str, str], ...]
    above: int | None
    above_code: str

    def code(self, account: str, amount: int) -> str:
        """The code to decline with; empty when approved."""
        for ending, code in self.endings:
            if account.endswith(ending):
                return code
        return self.above_code if self.above is not None and amount > self.above else ""


def parse_endings(texts: list[str]) -> tuple[tuple[str, str], ...]:
    """["0=51", "99=54"] as pairs. Raises ValueError."""
    pairs = [text.partition("=") for text in texts]
    if not all(ending and code for ending, _, code in pairs):
        raise ValueError("a decline rule is ENDING=CODE")
    return tuple((ending, code) for ending, _, code in pairs)
