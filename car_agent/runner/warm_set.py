"""Which programs and constants a worker keeps: least recently used goes first.

Supervisor and worker each hold one and feed it the same frames in the same order, so they always agree on
what is still there, without a message about it.
"""

from collections import OrderedDict
from typing import Final

PROGRAMS_MAX: Final = 8
CONSTANTS_MAX: Final = 4
CONSTANTS_BYTES_MAX: Final = 256 * 1024 * 1024


class WarmSet:
    """Keys in order of use, bounded by count and bytes. The newest always stays, whatever its size."""

    def __init__(self, *, entries_max: int, bytes_max: int | None = None) -> None:
        """Keep at most `entries_max` keys of together `bytes_max` bytes."""
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._sizes: OrderedDict[str, int] = OrderedDict()

    @classmethod
    def for_programs(cls) -> "WarmSet":
        """Return the set of compiled programs."""
        return cls(entries_max=PROGRAMS_MAX)

    @classmethod
    def for_constants(cls) -> "WarmSet":
        """Return the set of constants."""
        return cls(entries_max=CONSTANTS_MAX, bytes_max=CONSTANTS_BYTES_MAX)

    def __contains__(self, key: str) -> bool:
        return key in self._sizes

    @property
    def keys(self) -> tuple[str, ...]:
        """What is kept, the least recently used first."""
        return tuple(self._sizes)

    def touch(self, key: str) -> None:
        """Take note that a kept key was used; one that is not kept changes nothing."""
        if key in self._sizes:
            self._sizes.move_to_end(key)

    def add(self, key: str, size_bytes: int = 0) -> tuple[str, ...]:
        """Keep a key as the newest; return the keys that had to go."""
        self._sizes.pop(key, None)
        self._sizes[key] = size_bytes
        evicted: list[str] = []
        while len(self._sizes) > 1 and self._is_too_full():
            evicted.append(self._sizes.popitem(last=False)[0])
        return tuple(evicted)

    def discard(self, key: str) -> None:
        """Forget a key."""
        self._sizes.pop(key, None)

    def _is_too_full(self) -> bool:
        too_many = len(self._sizes) > self._entries_max
        return too_many or (self._bytes_max is not None and sum(self._sizes.values()) > self._bytes_max)
