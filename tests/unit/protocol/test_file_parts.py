"""Files in parts: whole ones come out, everything else is refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.file_parts import FILE_BYTES_MAX, whole_files
from pool_protocol.v1.report_service_pb2 import FilePart


def parts(content: bytes, *, name: str = "a.pdf", cuts: int = 7, index: int = 0) -> list[FilePart]:
    return [
        FilePart(
            file_index=index,
            file_count=2,
            file_name=name,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            content=content[start : start + cuts],
        )
        for start in range(0, max(1, len(content)), cuts)
    ]


@given(st.lists(st.binary(max_size=50), max_size=4), st.integers(1, 60))
def test_what_was_cut_comes_back_whole(contents: list[bytes], cuts: int) -> None:
    cut = [
        part
        for index, content in enumerate(contents)
        for part in parts(content, cuts=cuts, index=index, name=f"{index}.csv")
    ]
    files = list(whole_files(cut))
    assert [file.content for file in files] == contents
    assert [(file.index, file.name) for file in files] == [(i, f"{i}.csv") for i in range(len(contents))]


def test_damaged_files_are_refused() -> None:
    good = parts(b"0123456789" * 3)
    short, longer, other = good[:-1], parts(b"0123456789" * 3), parts(b"0123456789" * 3)
    longer[-1].content += b"x"
    other[0].content = b"X" * len(other[0].content)
    for wrong in (short, longer, other):
        with pytest.raises(PoolError) as refused:
            list(whole_files(wrong))
        assert refused.value.code is ErrorCode.BLOB_DIGEST_MISMATCH


@pytest.mark.parametrize(
    "name", ["../a.pdf", "/etc/passwd", "", "a/b", ".bashrc", "a\x00", "x" * 121, "ä.pdf"]
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(PoolError) as refused:
        list(whole_files(parts(b"content", name=name)))
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_size_beyond_reason_is_refused() -> None:
    [part] = parts(b"small")
    part.size_bytes = FILE_BYTES_MAX + 1
    with pytest.raises(PoolError) as refused:
        list(whole_files([part]))
    assert refused.value.code is ErrorCode.BLOB_TOO_LARGE
