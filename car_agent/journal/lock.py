"""One agent per state directory, by a lock that the kernel drops when its holder dies."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pool_protocol.errors import ErrorCode, PoolError

_LOCK_TRIES: Final = 20
_LOCK_WAIT_S: Final = 0.1


@contextmanager
def exclusive(path: Path, *, tries: int = _LOCK_TRIES) -> Iterator[None]:
    """Hold the state directory's lock: one daemon, or one command that writes consent in its absence.

    Raises:
        PoolError: ALREADY_EXISTS when an agent runs here.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    pause = threading.Event()
    try:
        for attempt in range(tries):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if attempt == tries - 1:
                    raise PoolError(
                        ErrorCode.ALREADY_EXISTS,
                        f"another agent runs on {path.parent}",
                        advice="`car-agent status` shows what it does; end it before you start another, or "
                        "give this one its own --state-dir.",
                    ) from error
                pause.wait(_LOCK_WAIT_S)
        yield
    finally:
        os.close(descriptor)
