"""Frames: what one side writes the other reads, and nothing else is taken for a frame."""

import asyncio
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_agent.runner.frames import (
    BUFFER_BYTES_MAX,
    HEADER_BYTES_MAX,
    Frame,
    FrameType,
    encode,
    read_frame,
    read_frame_blocking,
    write_frame_blocking,
)
from car_agent.runner.warm_set import WarmSet
from pool_protocol.errors import ErrorCode, PoolError


def raw(header: object, *buffers: bytes) -> bytes:
    content = json.dumps(header).encode()
    return len(content).to_bytes(4, "little") + content + b"".join(buffers)


async def read_all(content: bytes) -> list[Frame]:
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    frames = []
    while (frame := await read_frame(reader)) is not None:
        frames.append(frame)
    return frames


fields = st.dictionaries(st.sampled_from(["a", "b", "attempt_id"]), st.integers() | st.text(max_size=9))


@given(
    frames=st.lists(
        st.tuples(st.sampled_from(FrameType), fields, st.lists(st.binary(max_size=64), max_size=2)),
        max_size=4,
    )
)
def test_frames_survive_the_pipe(frames: list[tuple[FrameType, dict[str, Any], list[bytes]]]) -> None:
    stream = io.BytesIO()
    for frame_type, values, buffers in frames:
        write_frame_blocking(stream, frame_type, values, buffers)
    expected = [Frame(frame_type, values, tuple(buffers)) for frame_type, values, buffers in frames]
    assert asyncio.run(read_all(stream.getvalue())) == expected
    stream.seek(0)
    assert [read_frame_blocking(stream) for _ in frames] == expected
    assert read_frame_blocking(stream) is None


@pytest.mark.parametrize(
    "content",
    [
        b"\x01",
        b"\x00\x00\x00\x00",
        (HEADER_BYTES_MAX + 1).to_bytes(4, "little"),
        b"\x05\x00\x00\x00ab",
        b"\x04\x00\x00\x00\x80\x02K\x01.",
        raw([]),
        raw({"type": "done"}),
        raw({"type": "bye", "buffers": []}),
        raw({"type": "done", "buffers": [1, 1, 1]}, b"abc"),
        raw({"type": "done", "buffers": [-1]}),
        raw({"type": "done", "buffers": [True]}, b"a"),
        raw({"type": "done", "buffers": ["1"]}, b"a"),
        raw({"type": "done", "buffers": [BUFFER_BYTES_MAX + 1]}),
        raw({"type": "done", "buffers": [5]}, b"abc"),
        raw({"type": "done", "buffers": {}}),
    ],
)
async def test_what_is_not_a_frame_is_refused_by_both_sides(content: bytes) -> None:
    with pytest.raises(PoolError) as refused:
        await read_all(content)
    assert refused.value.code is ErrorCode.WORKER_LOST
    with pytest.raises(PoolError):
        read_frame_blocking(io.BytesIO(content))


def test_fields_are_read_strictly() -> None:
    frame = Frame(FrameType.DONE, {"n": 1, "t": "x", "l": ["a"], "neg": -1, "yes": True, "mixed": ["a", 1]})
    assert (frame.number("n"), frame.text("t"), frame.texts("l")) == (1, "x", ["a"])
    for read, name in [
        (frame.number, "t"),
        (frame.number, "neg"),
        (frame.number, "yes"),
        (frame.number, "missing"),
        (frame.text, "n"),
        (frame.texts, "mixed"),
        (frame.texts, "t"),
    ]:
        with pytest.raises(PoolError):
            read(name)
    with pytest.raises(PoolError):
        _ = frame.buffer


def test_a_frame_too_large_is_not_written() -> None:
    with pytest.raises(PoolError):
        encode(FrameType.RUN, {}, [b"", b"", b""])
    with pytest.raises(PoolError):
        encode(FrameType.RUN, {"x": "y" * HEADER_BYTES_MAX})


def test_a_warm_set_forgets_the_least_recently_used() -> None:
    warm = WarmSet(entries_max=2, bytes_max=10)
    assert warm.add("a", 4) == ()
    assert warm.add("b", 4) == ()
    warm.touch("a")
    assert warm.add("c", 4) == ("b",)
    assert warm.add("huge", 50) == ("a", "c"), "the newest stays whatever its size"
    assert "huge" in warm
    assert warm.add("huge", 1) == ()
    warm.discard("huge")
    assert warm.keys == ()
    warm.touch("nothing")
    assert warm.keys == ()
