"""Sequential ids, allocated in blocks inside the transaction: a rolled-back command gives its ids back."""

from sqlalchemy import Connection

from pool_protocol.errors import InvariantError


class SqlIdBlocks:
    """One counter per kind of id."""

    def __init__(self, connection: Connection) -> None:
        """Bind to a transaction."""
        self._connection = connection

    def next_block(self, name: str, count: int) -> range:
        """Return `count` fresh ids in order, the first ever being 1."""
        if count < 1:
            return range(0)
        after = self._connection.exec_driver_sql(
            "INSERT INTO id_counters (name, next_value) VALUES (?, ? + 1) "
            "ON CONFLICT (name) DO UPDATE SET next_value = next_value + ? RETURNING next_value",
            (name, count, count),
        ).scalar_one()
        if not isinstance(after, int):
            raise InvariantError(f"the counter {name!r} holds {after!r}")
        return range(after - count, after)
