"""Bytes to a validated message: XML parsing hardened against hostile input, and the forms a document comes in."""

import re

import msgspec
from lxml import etree

from messages.iso20022.explained import explained
from messages.iso20022.schemas import Schemas, message_type
from messages.message import MessageError

MAXIMUM_BYTES = 1_000_000  # a file of some 700 transactions
_WRAPPER_DEPTH = 8  # elements around Document; real wrappers have one to three
_WRAPPER_ELEMENTS = 100

# One configuration for all bytes from outside; lxml serialises its use between threads. The encoding is fixed, so what
# a declaration says cannot change how the DOCTYPE scan and the parser read the bytes. Without huge_tree libxml2 bounds
# depth (256). Comments and processing instructions are dropped, so that they do not split a value in two; white space
# between elements too, so that it does not count in the digest.
_PARSER = etree.XMLParser(
    encoding="utf-8",
    resolve_entities=False,
    load_dtd=False,
    no_network=True,
    huge_tree=False,
    remove_comments=True,
    remove_pis=True,
    remove_blank_text=True,
    collect_ids=False,
)
_BOM = b"\xef\xbb\xbf"
_DECLARED_ENCODING = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"']*)[\"']")

_SYNTAX_ERRORS = {
    etree.ErrorTypes.ERR_DOCUMENT_EMPTY: "no XML document",
    etree.ErrorTypes.ERR_DOCUMENT_END: "bytes after the end of the document, or none of it",
    etree.ErrorTypes.ERR_TAG_NAME_MISMATCH: "end tag does not match its start tag",
    etree.ErrorTypes.ERR_TAG_NOT_FINISHED: "document is cut off",
    etree.ErrorTypes.ERR_UNDECLARED_ENTITY: "entity that is not predefined",
    etree.ErrorTypes.ERR_INVALID_CHAR: "character that XML does not allow",
    etree.ErrorTypes.ERR_INVALID_ENCODING: "bytes that are not UTF-8",
    etree.ErrorTypes.ERR_NAME_TOO_LONG: "name is too long",
    etree.ErrorTypes.ERR_RESOURCE_LIMIT: "nested too deeply or too large",
    etree.ErrorTypes.NS_ERR_UNDEFINED_NAMESPACE: "namespace prefix that is not declared",
}


class BusinessMessage(msgspec.Struct, frozen=True, gc=False):
    """A validated Document and what it came in. Elements are lxml's and are not to be changed."""

    payload: bytes
    type: str  # "pacs.008.001.08"
    document: etree._Element
    header: etree._Element | None  # AppHdr
    wrapper: tuple[str, ...]  # Clark names from the outermost element to the parent of Document; () when bare

    def __repr__(self) -> str:
        return f"BusinessMessage({self.type} {len(self.payload)} bytes)"


def parse(payload: bytes, schemas: Schemas, maximum: int = MAXIMUM_BYTES) -> BusinessMessage:
    """Parse and validate one message: a Document, alone or in a wrapper of any namespace, with or without an AppHdr.

    The bytes must be UTF-8 XML (ISO 20022-4 clause 7) of at most `maximum` bytes without a document type declaration.
    The wrapper's own elements are not validated. Raises MessageError.
    """
    root = _parse_xml(payload, maximum)
    document, header = _locate(root)
    kind = _validate(document, "Document", schemas)
    if header is not None:
        _validate(header, "AppHdr", schemas)
    wrapper = tuple(str(outer.tag) for outer in document.iterancestors())[::-1]
    return BusinessMessage(payload, kind, document, header, wrapper)


def _parse_xml(payload: bytes, maximum: int) -> etree._Element:
    if len(payload) > maximum:
        raise MessageError(f"longer than {maximum} bytes")
    if b"\0" in payload or payload.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise MessageError("encoding is not UTF-8", offset=0)
    declared = _DECLARED_ENCODING.match(payload, len(_BOM) if payload.startswith(_BOM) else 0)
    if declared and declared[1].upper() not in (b"UTF-8", b"UTF8"):
        raise MessageError("declared encoding is not UTF-8", offset=declared.start(1))
    # Also found inside a comment or CDATA section; no payment message has a reason to hold it there.
    doctype = payload.find(b"<!DOCTYPE")
    if doctype >= 0:
        raise MessageError("document type declaration", offset=doctype)
    try:
        return etree.fromstring(payload, _PARSER)
    except etree.XMLSyntaxError as error:
        reason = _SYNTAX_ERRORS.get(error.code, "not well-formed XML")  # type: ignore[attr-defined]
        # The parser's text may quote the message: neither it nor the exception goes any further.
        raise MessageError(reason, offset=_offset(payload, *error.position)) from None


def _offset(payload: bytes, line: int, column: int) -> int:
    """The byte offset near which the parser stopped; its columns count from 1."""
    start = 0
    for _ in range(line - 1):
        start = payload.find(b"\n", start) + 1
    return min(start + max(column - 1, 0), len(payload))


def _locate(root: etree._Element) -> tuple[etree._Element, etree._Element | None]:
    """Document and AppHdr, looked for near the top only."""
    documents: list[etree._Element] = []
    headers: list[etree._Element] = []
    level = [root]
    seen = 0
    for _ in range(_WRAPPER_DEPTH):
        below: list[etree._Element] = []
        for element in level:
            seen += 1
            if seen > _WRAPPER_ELEMENTS:
                raise MessageError("wrapper has too many elements around the document", "/")
            name = str(element.tag).rpartition("}")[2]
            if name == "Document":
                documents.append(element)
            elif name == "AppHdr":
                headers.append(element)
            else:
                below.extend(element.iterchildren(etree.Element))
        level = below
    if not documents:
        raise MessageError("no Document (a message in a scheme's own namespace cannot be validated)", "/Document")
    for found in (documents, headers):
        if len(found) > 1:
            raise MessageError("more than one in a message", f"/{etree.QName(found[0]).localname}")
    return documents[0], headers[0] if headers else None


def _validate(element: etree._Element, name: str, schemas: Schemas) -> str:
    namespace = str(element.tag)[1:].partition("}")[0]
    schema = schemas.get(namespace)
    if schema is None:
        kind = message_type(namespace)
        raise MessageError(f"no schema for {kind or 'the namespace'}", f"/{name}")
    if not schema.valid(element):
        raise explained(element, schema)
    return schema.type
