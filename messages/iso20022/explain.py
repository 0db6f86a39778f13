"""Where and why an element breaks its schema, in words that hold nothing of the message. Off the hot path.

xmlschema takes 0.25 s to import, 0.2 s for each schema, and some 40 MB: nobody imports this module but explained.py.
"""

import functools
from typing import Any

import xmlschema
from lxml import etree
from xmlschema.validators.exceptions import XMLSchemaChildrenValidationError

from messages.iso20022.schemas import Schema
from messages.message import MessageError

_EXPLAINED_MAXIMUM = 500  # elements; xmlschema takes some 50 µs for each, and nothing else goes on meanwhile


@functools.cache
def explainer(schema: Schema) -> xmlschema.XMLSchema10:
    """The schema compiled by xmlschema, once."""
    return xmlschema.XMLSchema10(schema.source, base_url=schema.location, allow="local")


def explain(element: etree._Element, schema: Schema) -> MessageError:
    """The first schema error of a Document or an AppHdr: the path of the element and what was expected there.

    Never a value, and no name but those of the schema: both may be personal data of whoever sent the message.
    """
    if sum(1 for _ in element.iter()) > _EXPLAINED_MAXIMUM:
        return MessageError("does not follow its schema (too large to say where)", _path(element, element, schema))
    # Location hints are xsi:schemaLocation: a sender must not make us read files.
    try:
        error = next(explainer(schema).iter_errors(element, use_location_hints=False), None)
    except (RecursionError, ArithmeticError, ValueError, TypeError, xmlschema.XMLSchemaException):
        # documents nested in SplmtryData reach its limits, and a year of fifty digits those of its dates
        error = None
    if error is not None:
        found = error.elem if isinstance(error.elem, etree._Element) else element
        return MessageError(_reason(error), _path(found, element, schema))
    return MessageError("does not follow its schema", _path(element, element, schema))


def _path(element: etree._Element, top: etree._Element, schema: Schema) -> str:
    """The path of an element from `top`, in local names: "/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[2]/PmtId".

    A name that the schema does not have (inside SplmtryData) is "*".
    """
    steps: list[str] = []
    while True:
        name = etree.QName(element).localname
        steps.append((name if name in schema.elements else "*") + _position(element))
        parent = element.getparent()
        if element is top or parent is None:
            return "/" + "/".join(reversed(steps))
        element = parent


def _position(element: etree._Element) -> str:
    before = sum(1 for _ in element.itersiblings(element.tag, preceding=True))
    alone = before == 0 and next(element.itersiblings(element.tag), None) is None
    return "" if alone else f"[{before + 1}]"


def _reason(error: xmlschema.XMLSchemaValidationError) -> str:
    if isinstance(error, XMLSchemaChildrenValidationError):
        names = sorted({name for name in map(_name, error.expected or ()) if name})
        return f"expected {' or '.join(names)}" if names else "has an element that is not expected"
    kind = type(error.validator).__name__
    if kind == "XsdAttributeGroup":
        return "its attributes are not those of its type"
    names = [name for name in (_name(error.validator), _name(getattr(error.validator, "parent", None))) if name]
    return f"its value is not of type {' of '.join(dict.fromkeys(names))}" if names else "does not follow its schema"


def _name(component: Any) -> str:
    return getattr(component, "local_name", None) or ""
