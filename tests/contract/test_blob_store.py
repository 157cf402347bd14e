"""What every blob store promises; the local folder keeps it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_server.blobs.local import LocalBlobStore
from pool_server.ports.shell import BlobStore

CONTENT = b"the same bytes for everybody"
NAME = sha256_hex(CONTENT)
MakeStore = Callable[[], BlobStore]


@pytest.fixture(params=["local"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Opens the store again and again over the same contents."""
    return {"local": lambda: LocalBlobStore(tmp_path / "blobs", blob_bytes_max=1_000)}[request.param]


@pytest.fixture
def store(make_store: MakeStore) -> BlobStore:
    return make_store()


def refused(call: Callable[[], object], code: ErrorCode) -> None:
    with pytest.raises(PoolError) as refusal:
        call()
    assert refusal.value.code is code


def test_what_was_put_is_got_also_by_the_next_process(store: BlobStore, make_store: MakeStore) -> None:
    assert store.put(CONTENT, blob_sha256=NAME) == len(CONTENT)
    for opened in (store, make_store()):
        assert opened.get(NAME) == CONTENT
        assert opened.size(NAME) == len(CONTENT)


def test_putting_again_changes_nothing(store: BlobStore) -> None:
    store.put(CONTENT, blob_sha256=NAME)
    assert store.put(CONTENT, blob_sha256=NAME) == len(CONTENT)
    assert store.get(NAME) == CONTENT


def test_the_empty_blob_is_a_blob(store: BlobStore) -> None:
    empty = sha256_hex(b"")
    assert store.put(b"", blob_sha256=empty) == 0
    assert (store.get(empty), store.size(empty)) == (b"", 0)


def test_what_is_not_there_is_missing(store: BlobStore) -> None:
    assert store.size(NAME) is None
    refused(lambda: store.get(NAME), ErrorCode.BLOB_MISSING)


def test_a_name_must_be_that_of_the_bytes(store: BlobStore) -> None:
    refused(lambda: store.put(b"other", blob_sha256=NAME), ErrorCode.BLOB_DIGEST_MISMATCH)
    assert store.size(NAME) is None


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, NAME[:-1], NAME + "0", "0" * 63 + "/"])
def test_only_a_digest_is_a_name(store: BlobStore, name: str) -> None:
    refused(lambda: store.put(CONTENT, blob_sha256=name), ErrorCode.INVALID_ARGUMENT)
    refused(lambda: store.get(name), ErrorCode.INVALID_ARGUMENT)
    refused(lambda: store.begin(name), ErrorCode.INVALID_ARGUMENT)


def test_a_blob_has_a_longest_length(store: BlobStore) -> None:
    fits, too_long = bytes(1_000), bytes(1_001)
    assert store.put(fits, blob_sha256=sha256_hex(fits)) == 1_000
    refused(lambda: store.put(too_long, blob_sha256=sha256_hex(too_long)), ErrorCode.BLOB_TOO_LARGE)
    assert store.size(sha256_hex(too_long)) is None


def test_an_upload_in_pieces_appears_whole_or_not_at_all(store: BlobStore, make_store: MakeStore) -> None:
    upload = store.begin(NAME)
    upload.write(CONTENT[:5])
    assert store.size(NAME) is None
    upload.write(CONTENT[5:])
    assert upload.finish() == len(CONTENT)
    upload.close()
    assert store.get(NAME) == CONTENT

    other = sha256_hex(b"never finished")
    abandoned = store.begin(other)
    abandoned.write(b"never")
    abandoned.close()
    assert make_store().size(other) is None


def test_damage_is_noticed(tmp_path: Path) -> None:
    store = LocalBlobStore(tmp_path / "blobs")
    store.put(CONTENT, blob_sha256=NAME)
    (tmp_path / "blobs" / NAME[:2] / NAME[2:]).write_bytes(b"rot")
    refused(lambda: store.get(NAME), ErrorCode.BLOB_DIGEST_MISMATCH)


def test_a_crashed_upload_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    LocalBlobStore(folder)
    (folder / "incoming" / "tmp1234").write_bytes(b"half")  # as a killed process leaves it
    LocalBlobStore(folder)
    assert not list((folder / "incoming").iterdir())
