"""How referee and child talk: a JSON header behind its length, then the raw buffers that it lists.

Neither side trusts the other's lengths. What a header means is decided by `child` and `process`. No NumPy
here: the child reads its first frame's module before its sandbox stands.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Final, NamedTuple

from pool_protocol.limits import BLOB_BYTES_MAX, MIB

#: 65,536 unit digests take 4.2 MiB of hexadecimal digits; a manifest at most 1 MiB.
HEADER_BYTES_MAX: Final = 6 * MIB
BUFFERS_MAX: Final = 2
_LENGTH_BYTES: Final = 4


class BrokenFrameError(Exception):
    """The other side went away within a frame, or does not speak frames."""


class Frame(NamedTuple):
    """One message."""

    fields: dict[str, Any]
    buffers: list[bytes]


def write_frame(stream: BinaryIO, fields: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> None:
    """Write and flush one frame."""
    sizes = [len(buffer) for buffer in buffers]
    header = json.dumps({**fields, "buffers": sizes}, separators=(",", ":")).encode()
    stream.write(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
    stream.writelines(buffers)
    stream.flush()


def read_frame(stream: BinaryIO) -> Frame | None:
    """Return the next frame, or None at the end of the stream.

    Raises:
        BrokenFrameError: for anything that is not a frame, or ends within one.
    """
    prefix = stream.read(_LENGTH_BYTES)
    if not prefix:
        return None
    length = int.from_bytes(prefix, "little")
    if len(prefix) < _LENGTH_BYTES or not 2 <= length <= HEADER_BYTES_MAX:
        raise BrokenFrameError(f"a header of {length} bytes")
    try:
        fields = json.loads(_exactly(stream, length))
        sizes = fields.pop("buffers")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise BrokenFrameError(f"a header that is not one ({type(error).__name__})") from error
    if not isinstance(sizes, list) or len(sizes) > BUFFERS_MAX or not all(map(_is_size, sizes)):
        raise BrokenFrameError("buffers out of bounds")
    return Frame(fields, [_exactly(stream, size) for size in sizes])


def _is_size(size: object) -> bool:
    return type(size) is int and 0 <= size <= BLOB_BYTES_MAX


def _exactly(stream: BinaryIO, length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise BrokenFrameError("the stream ended within a frame")
    return content
