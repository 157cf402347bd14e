"""The language of supervisor and worker: frames on a pair of pipes.

A frame is 4 bytes little-endian length, that many bytes of JSON header, then the raw buffers whose lengths
the header's "buffers" lists. Nothing is pickled, and neither side trusts the other's lengths: what is larger
than the limits below is refused before it is read. A frame's meaning is decided by `worker` and `keeper`.

    supervisor -> worker   load {program_sha256, manifest} [artifact]        constants {key} [safetensors]
                           run {attempt_id, program_sha256, constants_key, steps, unit_steps, first_unit}
                               [inputs], and the state to start from where that is not the initial one
                           probe {}                                                 shutdown {}
    worker -> supervisor   ready {jax, jaxlib, platforms, sandbox_applied, sandbox_missing}
                           loaded {program_sha256, compile_ms}
                           progress {attempt_id, units_done, units_total, unit_digests_hex}, none twice
                           done {attempt_id, run_time_us, unit_digests_hex} [safetensors outputs]
                           failed {attempt_id, kind, detail}
                           probed {families: ["name:hexadecimal digest", ...]}, none when it failed
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any, BinaryIO, Final, Never

from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError

#: A manifest may have 1 MiB, and 65,536 unit digests 4.2 MiB of hexadecimal digits.
HEADER_BYTES_MAX: Final = 6 * limits.MIB
BUFFERS_MAX: Final = 2
BUFFER_BYTES_MAX: Final = limits.BLOB_BYTES_MAX
_LENGTH_BYTES: Final = 4


@unique
class FrameType(StrEnum):
    """What a frame says."""

    LOAD = "load"
    CONSTANTS = "constants"
    RUN = "run"
    PROBE = "probe"
    SHUTDOWN = "shutdown"
    READY = "ready"
    LOADED = "loaded"
    PROGRESS = "progress"
    DONE = "done"
    FAILED = "failed"
    PROBED = "probed"


@unique
class FailureKind(StrEnum):
    """Whose fault a failure is."""

    PROGRAM = "program"
    """The program fails by itself: it would on every vehicle."""
    MEMORY = "memory"
    """It wants more memory than the worker may use."""
    INPUT = "input"
    """Inputs or constants do not fit the program."""
    WORKER = "worker"
    """The worker could not do it; another may."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    type: FrameType
    fields: Mapping[str, Any]
    buffers: tuple[bytes, ...] = ()

    def text(self, name: str) -> str:
        """Return a text field.

        Raises:
            PoolError: WORKER_LOST when it is missing or not text.
        """
        value = self.fields.get(name)
        if not isinstance(value, str):
            _broken(f"{self.type} lacks the text {name}")
        return value

    def number(self, name: str) -> int:
        """Return an integer field from 0.

        Raises:
            PoolError: WORKER_LOST when it is missing, negative or no integer.
        """
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            _broken(f"{self.type} lacks the number {name}")
        return value

    def texts(self, name: str) -> list[str]:
        """Return a list of texts.

        Raises:
            PoolError: WORKER_LOST when it is missing or not a list of texts.
        """
        value = self.fields.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            _broken(f"{self.type} lacks the texts {name}")
        return value

    @property
    def buffer(self) -> bytes:
        """The only buffer.

        Raises:
            PoolError: WORKER_LOST when there is none or more than one.
        """
        if len(self.buffers) != 1:
            _broken(f"{self.type} has {len(self.buffers)} buffers")
        return self.buffers[0]


def _broken(detail: str) -> Never:
    raise PoolError(ErrorCode.WORKER_LOST, f"broken frame: {detail}")


def encode(frame_type: FrameType, fields: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> list[bytes]:
    """Return a frame as the pieces to write, the buffers uncopied.

    Raises:
        PoolError: WORKER_LOST when it is larger than the other side accepts.
    """
    if len(buffers) > BUFFERS_MAX or any(len(buffer) > BUFFER_BYTES_MAX for buffer in buffers):
        _broken(f"{frame_type} has buffers out of bounds")
    header = json.dumps(
        {**fields, "type": frame_type.value, "buffers": [len(buffer) for buffer in buffers]},
        separators=(",", ":"),
    ).encode()
    if len(header) > HEADER_BYTES_MAX:
        _broken(f"{frame_type} has a header of {len(header)} bytes")
    return [len(header).to_bytes(_LENGTH_BYTES, "little") + header, *buffers]


def _header_length(prefix: bytes) -> int:
    length = int.from_bytes(prefix, "little")
    if not 2 <= length <= HEADER_BYTES_MAX:
        _broken(f"a header of {length} bytes")
    return length


def _parse_header(content: bytes) -> tuple[FrameType, dict[str, Any], list[int]]:
    try:
        header = json.loads(content)
        frame_type = FrameType(header.pop("type"))
        lengths = header.pop("buffers")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        _broken(f"a header that is not one ({type(error).__name__})")
    if not isinstance(lengths, list) or len(lengths) > BUFFERS_MAX:
        _broken(f"{frame_type} lists too many buffers")
    for length in lengths:
        if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= BUFFER_BYTES_MAX:
            _broken(f"{frame_type} lists a buffer of {str(length)[:32]} bytes")
    return frame_type, header, lengths


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """Return the next frame, or None at the end of the stream.

    Raises:
        PoolError: WORKER_LOST for anything that is not a frame, or ends within one.
    """
    try:
        prefix = await reader.readexactly(_LENGTH_BYTES)
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        _broken("the stream ended within a length")
    try:
        content = await reader.readexactly(_header_length(prefix))
        frame_type, fields, lengths = _parse_header(content)
        buffers = tuple([await reader.readexactly(length) for length in lengths])
    except asyncio.IncompleteReadError:
        _broken("the stream ended within a frame")
    return Frame(frame_type, fields, buffers)


def read_frame_blocking(stream: BinaryIO) -> Frame | None:
    """Return the next frame, or None at the end of the stream: the worker's side.

    Raises:
        PoolError: WORKER_LOST for anything that is not a frame, or ends within one.
    """
    prefix = stream.read(_LENGTH_BYTES)
    if not prefix:
        return None
    if len(prefix) < _LENGTH_BYTES:
        _broken("the stream ended within a length")
    content = _exactly(stream, _header_length(prefix))
    frame_type, fields, lengths = _parse_header(content)
    return Frame(frame_type, fields, tuple(_exactly(stream, length) for length in lengths))


def _exactly(stream: BinaryIO, length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        _broken("the stream ended within a frame")
    return content


def write_frame_blocking(
    stream: BinaryIO, frame_type: FrameType, fields: Mapping[str, Any], buffers: Sequence[bytes] = ()
) -> None:
    """Write and flush one frame: the worker's side."""
    stream.writelines(encode(frame_type, fields, buffers))
    stream.flush()
