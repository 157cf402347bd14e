"""The clock that shells are handed. The real one is `pool_protocol.system.SystemClock`.

This module decides nothing; it only names the two kinds of time so that they are not confused. Pure
decisions take `now_us` as an argument and never a clock.
"""

from typing import Protocol

MICROSECONDS_PER_SECOND = 1_000_000
MICROSECONDS_PER_MILLISECOND = 1_000


class Clock(Protocol):
    """A source of wall time and of monotonic time."""

    def now_us(self) -> int:
        """Return the wall time: microseconds since the Unix epoch, UTC. It may step in either direction."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds since some start; they never go back and count while the machine sleeps."""
        ...
