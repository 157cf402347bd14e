"""Files that are whole or absent after a power cut: temporary file, fsync, rename, fsync of the directory."""

import os
from pathlib import Path

PRIVATE_MODE = 0o600


def write_durably(path: Path, content: bytes, *, mode: int = PRIVATE_MODE) -> None:
    """Put `content` in place of whatever `path` holds; on disk before this returns.

    Raises:
        OSError: when the disk refuses; the old content then still stands.
    """
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def remove_durably(path: Path) -> None:
    """Remove a file; its absence is on disk before this returns."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Write a directory's entries to disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
