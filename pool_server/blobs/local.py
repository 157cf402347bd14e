"""Blobs in a local folder: `<folder>/ab/cdef...`, named by SHA-256, written whole or not at all.

A blob is written to a temporary file, flushed to disk, renamed, and its folder flushed; only then is `put`
done. Who may read which blob is the catalogue's matter, not this module's.
"""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from pool_protocol import limits
from pool_protocol.digests import verify_sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ids import parse_blob_id


class LocalBlobStore:
    """Implements `ports.shell.BlobStore`. Thread-safe: files appear by rename and never change."""

    def __init__(self, folder: Path, *, blob_bytes_max: int = limits.BLOB_BYTES_MAX) -> None:
        """Use `folder`, made if missing; what a crash left half-written is removed.

        Args:
            folder: Where blobs lie. One server owns it.
            blob_bytes_max: Longest blob taken.
        """
        self._folder = folder
        self._incoming = folder / "incoming"
        self._blob_bytes_max = blob_bytes_max
        self._incoming.mkdir(parents=True, exist_ok=True)
        for leftover in self._incoming.iterdir():
            leftover.unlink()

    def put(self, content: bytes, *, blob_sha256: str) -> int:
        upload = self.begin(blob_sha256)
        try:
            upload.write(content)
            return upload.finish()
        finally:
            upload.close()

    def begin(self, blob_sha256: str) -> "BlobUpload":
        """Start an upload that comes in pieces.

        Raises:
            PoolError: INVALID_ARGUMENT when the name is not a SHA-256.
        """
        name = parse_blob_id(blob_sha256)
        return BlobUpload(self._path(name), incoming=self._incoming, bytes_max=self._blob_bytes_max)

    def get(self, blob_sha256: str) -> bytes:
        name = parse_blob_id(blob_sha256)
        try:
            content = self._path(name).read_bytes()
        except FileNotFoundError as error:
            raise PoolError(ErrorCode.BLOB_MISSING, f"no blob {name}", context={"sha256": name}) from error
        verify_sha256_hex(content, name)
        return content

    def size(self, blob_sha256: str) -> int | None:
        try:
            return self._path(parse_blob_id(blob_sha256)).stat().st_size
        except FileNotFoundError:
            return None

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name[2:]


class BlobUpload:
    """One upload in pieces: `write`, then `finish`; `close` in any case."""

    def __init__(self, target: Path, *, incoming: Path, bytes_max: int) -> None:
        self._target = target
        self._bytes_max = bytes_max
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        descriptor, temporary = tempfile.mkstemp(dir=incoming)
        self._temporary = Path(temporary)
        self._file = os.fdopen(descriptor, "wb")

    def write(self, chunk: bytes) -> None:
        """Take the next piece.

        Raises:
            PoolError: BLOB_TOO_LARGE.
        """
        self._size_bytes += len(chunk)
        if self._size_bytes > self._bytes_max:
            raise PoolError(
                ErrorCode.BLOB_TOO_LARGE,
                f"more than {self._bytes_max} bytes",
                context={"limit": str(self._bytes_max)},
            )
        self._digest.update(chunk)
        self._file.write(chunk)

    def finish(self) -> int:
        """Make the blob durable under its name and return its length.

        Raises:
            PoolError: BLOB_DIGEST_MISMATCH when the pieces are not what the name says; nothing is kept.
        """
        expected = self._target.parent.name + self._target.name
        actual = self._digest.hexdigest()
        if actual != expected:
            raise PoolError(
                ErrorCode.BLOB_DIGEST_MISMATCH,
                f"{self._size_bytes} bytes hash to {actual}, not {expected}",
                context={"sha256": actual},
            )
        if self._target.exists():
            return self._size_bytes
        self._file.flush()
        os.fsync(self._file.fileno())
        self._target.parent.mkdir(exist_ok=True)
        self._temporary.rename(self._target)
        _flush_folder(self._target.parent)
        _flush_folder(self._target.parent.parent)
        return self._size_bytes

    def close(self) -> None:
        """Let go of the file and of what was not finished."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._temporary.unlink()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
