"""The only door to the real world's time and chance.

Everything else takes a `Clock` or an `IdSource` as an argument; this module is wired in by the programs'
`main` only, and `core` may not import it.
"""

import secrets
import time
from typing import Protocol

from pool_protocol import ids

#: 128 bits: two honest senders never draw the same nonce inside a replay window.
NONCE_BYTES = 16


class IdSource(Protocol):
    """A source of fresh ids and of secret randomness."""

    def new_owner_id(self) -> ids.OwnerId:
        """Return an owner id that nobody has seen."""
        ...

    def new_vehicle_id(self) -> ids.VehicleId:
        """Return a vehicle id that nobody has seen."""
        ...

    def new_buyer_id(self) -> ids.BuyerId:
        """Return a buyer id that nobody has seen."""
        ...

    def new_operator_id(self) -> ids.OperatorId:
        """Return an operator id that nobody has seen."""
        ...

    def nonce(self) -> bytes:
        """Return `NONCE_BYTES` unpredictable bytes."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """Return `count` unpredictable bytes, fit for keys and tokens."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        """Return the wall time in microseconds since the epoch, UTC."""
        return time.time_ns() // 1_000

    def monotonic_ns(self) -> int:
        """Return boot time in nanoseconds where the system has it (it counts while a car sleeps)."""
        boot_time = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic_ns() if boot_time is None else time.clock_gettime_ns(boot_time)


class SystemIds:
    """Ids and nonces from the operating system's generator."""

    def new_owner_id(self) -> ids.OwnerId:
        """Return a fresh owner id."""
        return ids.owner_id(self.random_bytes(ids.ENTITY_ID_BYTES))

    def new_vehicle_id(self) -> ids.VehicleId:
        """Return a fresh vehicle id."""
        return ids.vehicle_id(self.random_bytes(ids.ENTITY_ID_BYTES))

    def new_buyer_id(self) -> ids.BuyerId:
        """Return a fresh buyer id."""
        return ids.buyer_id(self.random_bytes(ids.ENTITY_ID_BYTES))

    def new_operator_id(self) -> ids.OperatorId:
        """Return a fresh operator id."""
        return ids.operator_id(self.random_bytes(ids.ENTITY_ID_BYTES))

    def nonce(self) -> bytes:
        """Return 16 unpredictable bytes."""
        return self.random_bytes(NONCE_BYTES)

    def random_bytes(self, count: int) -> bytes:
        """Return `count` unpredictable bytes."""
        return secrets.token_bytes(count)
