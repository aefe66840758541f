"""Reading XML from strangers: a tree of names and texts, nothing that expands.

A document with a document type declaration is refused, since entities, which small
documents use to become large ones, can be declared nowhere else. Sizes are bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.parsers import expat

import attrs

from dwcloud.protocol.errors import RemoteProtocolError

__all__ = ["Element", "read_xml"]

MAX_DOCUMENT = 64 * 1024
"""Bytes."""
_MAX_ELEMENTS = 2000
_MAX_DEPTH = 32


@attrs.define
class Element:
    """An element, without its attributes.

    :ivar name: without the namespace's prefix: devices use what they like.
    :ivar text: the text directly in it, stripped.
    """

    name: str
    text: str = ""
    children: list[Element] = attrs.field(factory=list)

    def all(self, name: str) -> Iterator[Element]:
        """This element and those in it, at any depth, that have this name."""
        if self.name == name:
            yield self
        for child in self.children:
            yield from child.all(name)

    def find(self, name: str) -> Element | None:
        """The first of :meth:`all`."""
        return next(self.all(name), None)

    def child_text(self, name: str) -> str:
        """The text of the first direct child of this name, empty without one."""
        return next((c.text for c in self.children if c.name == name), "")


def read_xml(document: bytes) -> Element:
    """Read a document.

    :raises RemoteProtocolError: if it is not well-formed, declares a document type,
        or is larger than any honest one.
    """
    if len(document) > MAX_DOCUMENT:
        raise RemoteProtocolError(f"a document of {len(document)} bytes")
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.refuse_document_type
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    try:
        # Some devices end their documents with zeros.
        parser.Parse(document.rstrip(b"\0 \t\r\n"), True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise RemoteProtocolError(f"not well-formed XML: {error}") from None
    assert reader.root is not None
    return reader.root


class _Reader:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._count = 0

    def refuse_document_type(self, name: str, *_: object) -> None:
        raise RemoteProtocolError("a document type declaration in XML of a device")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > _MAX_ELEMENTS or len(self._open) >= _MAX_DEPTH:
            raise RemoteProtocolError("a document with too many elements")
        element = Element(name.rpartition(":")[2])
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, name: str) -> None:
        element = self._open.pop()
        element.text = element.text.strip()

    def characters(self, text: str) -> None:
        self._open[-1].text += text
