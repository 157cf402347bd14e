"""Sequential ids, allocated in blocks inside the transaction: a rolled-back command gives its ids back."""

from pool_protocol.errors import InvariantError
from pool_server.store.driver import Driver


class SqlIdBlocks:
    """One counter per kind of id."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def next_block(self, name: str, count: int) -> range:
        """Return `count` fresh ids in order, the first ever being 1."""
        if count < 1:
            return range(0)
        after = self._driver.run(
            "INSERT INTO id_counters (name, next_value) VALUES (?, ? + 1) "
            "ON CONFLICT (name) DO UPDATE SET next_value = id_counters.next_value + ? "
            "RETURNING next_value",
            (name, count, count),
        ).scalar_one()
        if not isinstance(after, int):
            raise InvariantError(f"the counter {name!r} holds {after!r}")
        return range(after - count, after)
