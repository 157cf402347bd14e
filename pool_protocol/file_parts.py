"""Puts files together again that came in parts, and holds them against what was announced.

A part is a `FilePart` of the report service, taken by its fields: this module needs no stubs. A file that is
cut short, too long or damaged is refused; a name that is no plain file name too, so that nobody who answers
for a pool can write outside the folder that was asked for.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from pool_protocol.errors import ErrorCode, PoolError

#: One paper. A statement of the most lines is some 3 MB; a year of a large fleet as CSV some 100.
FILE_BYTES_MAX = 1 << 30
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}", re.ASCII)


class Part(Protocol):
    """The fields of a part; see `report_service.proto`."""

    @property
    def file_index(self) -> int: ...
    @property
    def file_count(self) -> int: ...
    @property
    def file_name(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def content(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedFile:
    """A whole file."""

    index: int
    count: int
    """How many there are at most."""
    name: str
    content: bytes
    sha256: str


def whole_files(parts: Iterable[Part]) -> Iterator[ReceivedFile]:
    """Yield each file once it is whole.

    Raises:
        PoolError: BLOB_DIGEST_MISMATCH for a file that is cut short, too long or damaged; BLOB_TOO_LARGE;
            INVALID_ARGUMENT for a name that is none.
    """
    held: list[bytes] = []
    size = 0
    for part in parts:
        if not _NAME.fullmatch(part.file_name):
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"no file name: {part.file_name[:80]!r}")
        if part.size_bytes > FILE_BYTES_MAX:
            raise PoolError(ErrorCode.BLOB_TOO_LARGE, f"{part.file_name} has {part.size_bytes} bytes")
        held.append(part.content)
        size += len(part.content)
        if size > part.size_bytes:
            raise _damaged(part, f"{size} bytes came")
        if size < part.size_bytes:
            continue
        content = b"".join(held)
        held, size = [], 0
        if hashlib.sha256(content).hexdigest() != part.sha256:
            raise _damaged(part, "its digest is another")
        yield ReceivedFile(
            index=part.file_index,
            count=part.file_count,
            name=part.file_name,
            content=content,
            sha256=part.sha256,
        )
    if held:
        raise PoolError(ErrorCode.BLOB_DIGEST_MISMATCH, f"the stream ended within a file, after {size} bytes")


def _damaged(part: Part, why: str) -> PoolError:
    return PoolError(
        ErrorCode.BLOB_DIGEST_MISMATCH, f"{part.file_name} of {part.size_bytes} bytes is damaged: {why}"
    )
