"""Routes: which one a request takes. Compiled once from the rules; a lookup costs a few dictionary reads."""

from messages.message import Attributes
from switch.core.rules import Route, Rules


class Routing:
    """The routes of the rules, found by the longest BIN or BIC prefix first, then in the order of the file."""

    def __init__(self, rules: Rules) -> None:
        self._bins: dict[str, list[Route]] = {}
        self._bics: dict[str, list[Route]] = {}
        self._rest: list[Route] = []
        for route in rules.routes:
            for prefix in route.bins:
                self._bins.setdefault(prefix, []).append(route)
            for prefix in route.bics if not route.bins else ():
                self._bics.setdefault(prefix, []).append(route)
            if not route.bins and not route.bics:
                self._rest.append(route)
        self._bin_lengths = sorted({len(prefix) for prefix in self._bins}, reverse=True)
        self._bic_lengths = sorted({len(prefix) for prefix in self._bics}, reverse=True)

    def route(self, source: str, attributes: Attributes) -> Route | None:
        """The first that fits."""
        for table, lengths, value in (
            (self._bins, self._bin_lengths, attributes.bin),
            (self._bics, self._bic_lengths, attributes.bic),
        ):
            for length in lengths:
                for route in table.get(value[:length], ()):
                    if _fits(route, source, attributes):
                        return route
        for route in self._rest:
            if _fits(route, source, attributes):
                return route
        return None


def _fits(route: Route, source: str, attributes: Attributes) -> bool:
    amount = attributes.amount
    return (
        (not route.source or source in route.source)
        and (not route.types or attributes.type.startswith(tuple(route.types)))
        and (not route.bics or attributes.bic.startswith(tuple(route.bics)))
        and (not route.processing_codes or attributes.processing_code.startswith(tuple(route.processing_codes)))
        and (not route.currencies or attributes.currency in route.currencies)
        and (route.amount_min is None or (amount is not None and amount >= route.amount_min))
        and (route.amount_max is None or (amount is not None and amount <= route.amount_max))
    )
