"""How much work to ask for: enough that the worker never waits, not more than a moment's worth.

Leases are sized by the time that attempts have taken here lately, so that little is lost on unplug and other
cars find work too. Here too: how long to wait after a failure. Plain arithmetic; nothing here reads a clock.
"""

from typing import Final

#: A lease should keep the worker busy for about this long.
_LEASE_TARGET_S: Final = 4.0
#: The next lease is fetched when less than this is left to do.
_PREFETCH_S: Final = 2.0
_ATTEMPTS_UNKNOWN: Final = 4
_OPEN_LEASES_MAX: Final = 3
_WEIGHT: Final = 0.2


class Pace:
    """Remembers how long attempts take, as a moving average."""

    def __init__(self, *, attempts_max: int) -> None:
        """Never ask for more than `attempts_max` attempts at a time."""
        self._attempts_max = attempts_max
        self._attempt_s: float | None = None

    def took(self, seconds: float) -> None:
        """Take note of the time from one outcome to the next."""
        seconds = max(1e-5, seconds)
        before = self._attempt_s
        self._attempt_s = seconds if before is None else before + _WEIGHT * (seconds - before)

    def attempts_wanted(self, *, open_leases: int, remaining: int, available_ms: int) -> int:
        """Return how many attempts to ask for now; 0 when there is enough.

        Args:
            open_leases: Leases with attempts that have no outcome.
            remaining: Attempts of them without an outcome.
            available_ms: The time that the car will probably charge; 0 when unknown.
        """
        if open_leases >= _OPEN_LEASES_MAX:
            return 0
        if self._attempt_s is None:
            return 0 if remaining else min(_ATTEMPTS_UNKNOWN, self._attempts_max)
        if remaining * self._attempt_s >= _PREFETCH_S:
            return 0
        target_s = _LEASE_TARGET_S
        if available_ms:
            left_s = available_ms / 1_000 - remaining * self._attempt_s
            target_s = min(target_s, left_s)
        return max(1, min(self._attempts_max, int(target_s / self._attempt_s)))


class Backoff:
    """How long to wait before the next try of something that keeps failing: twice as long each time."""

    S_MIN: Final = 1.0
    S_MAX: Final = 60.0

    def __init__(self) -> None:
        """Begin with the shortest."""
        self._s = self.S_MIN

    def next_s(self) -> float:
        """Return how long to wait now."""
        now_s, self._s = self._s, min(self.S_MAX, self._s * 2)
        return now_s

    def reset(self) -> None:
        """It worked."""
        self._s = self.S_MIN
