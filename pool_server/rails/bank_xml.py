"""Reads a bank's XML into a small tree, and nothing that XML could do to us.

No document type, no entities but the five of XML itself, no external anything; depth, size and the number of
elements are limited. Namespaces are dropped from names; the root's is kept, because it says which message and
which version the file is.
"""

from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat  # the declarations that make XML dangerous are refused below

from pool_protocol.errors import ErrorCode, PoolError

#: A report on 10 000 payments with all their details is about 12 MB.
REPORT_BYTES_MAX = 14 * 1024 * 1024
_DEPTH_MAX = 40
#: Long texts come in few pieces: putting many together costs the square of their number.
_TEXT_BUFFER_BYTES = 1 << 20
_ELEMENTS_MAX = 1_000_000
_SEPARATOR = " "


@dataclass(slots=True)
class Element:
    """An element: its local name, its text, its attributes and what it holds."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def all(self, path: str) -> list["Element"]:
        """Return the elements at a path such as `Refs/EndToEndId`, in order."""
        found = [self]
        for name in path.split("/"):
            found = [child for element in found for child in element.children if child.name == name]
        return found

    def first(self, path: str) -> "Element | None":
        """Return the first element at a path."""
        found = self.all(path)
        return found[0] if found else None

    def value(self, *paths: str) -> str:
        """Return the text at the first of these paths that has any; empty when none has."""
        for path in paths:
            element = self.first(path)
            if element is not None and element.text.strip():
                return element.text.strip()
        return ""


def unreadable(why: str) -> PoolError:
    """Say that a file is no report."""
    return PoolError(
        ErrorCode.INVALID_ARGUMENT,
        f"the bank's file cannot be read, and nothing was changed: {why}",
        context={"field": "file"},
    )


def read_xml(content: bytes) -> tuple[str, Element]:
    """Read a document; return the root's namespace and the root.

    Raises:
        PoolError: INVALID_ARGUMENT when it is not well-formed, is too large or too deep, or declares a
            document type or an entity.
    """
    if len(content) > REPORT_BYTES_MAX:
        raise unreadable(f"it has {len(content)} bytes, more than {REPORT_BYTES_MAX}")
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.buffer_text = True
    parser.buffer_size = _TEXT_BUFFER_BYTES
    parser.StartDoctypeDeclHandler = _refuse("a document type")
    parser.EntityDeclHandler = _refuse("an entity")
    parser.ExternalEntityRefHandler = _refuse("an external entity")
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise unreadable(f"it is not XML ({error})") from error
    except (LookupError, ValueError) as error:
        raise unreadable("its encoding is not known") from error
    if builder.root is None:
        raise unreadable("it is empty")
    return builder.namespace, builder.root


def _refuse(what: str) -> Any:
    def handler(*_arguments: object) -> None:
        raise unreadable(f"it declares {what}, which no bank's report does")

    return handler


class _Builder:
    """Builds the tree from the parser's events."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self.namespace = ""
        self._open: list[Element] = []
        self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > _ELEMENTS_MAX or len(self._open) >= _DEPTH_MAX:
            raise unreadable("it holds more elements than any report, or nests them deeper")
        namespace, _, local = name.rpartition(_SEPARATOR)
        element = Element(local, {key.rpartition(_SEPARATOR)[2]: value for key, value in attributes.items()})
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root, self.namespace = element, namespace
        self._open.append(element)

    def end(self, _name: str) -> None:
        self._open.pop()

    def data(self, text: str) -> None:
        # Text beside elements is white space in every message of ISO 20022.
        if self._open and not self._open[-1].children:
            self._open[-1].text += text
