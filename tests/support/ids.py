"""Ids and nonces that a seed decides, for tests that must repeat."""

import random

from pool_protocol import ids
from pool_protocol.system import NONCE_BYTES


class SeededIds:
    """An `IdSource` whose every draw follows from its seed. Never for anything real."""

    def __init__(self, seed: int = 0) -> None:
        """Start the sequence that belongs to `seed`."""
        self._random = random.Random(seed)

    def new_owner_id(self) -> ids.OwnerId:
        """Return the next owner id."""
        return ids.owner_id(self.random_bytes(ids.ENTITY_ID_BYTES))

    def new_vehicle_id(self) -> ids.VehicleId:
        """Return the next vehicle id."""
        return ids.vehicle_id(self.random_bytes(ids.ENTITY_ID_BYTES))

    def new_buyer_id(self) -> ids.BuyerId:
        """Return the next buyer id."""
        return ids.buyer_id(self.random_bytes(ids.ENTITY_ID_BYTES))

    def new_operator_id(self) -> ids.OperatorId:
        """Return the next operator id."""
        return ids.operator_id(self.random_bytes(ids.ENTITY_ID_BYTES))

    def nonce(self) -> bytes:
        """Return the next 16 bytes."""
        return self.random_bytes(NONCE_BYTES)

    def random_bytes(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        return self._random.randbytes(count)
