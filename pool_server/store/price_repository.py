"""Posted prices in SQL: append-only, the last one is in force."""

from pool_server.ports.money import PostedPrice
from pool_server.store.driver import Driver
from pool_server.store.statements import write_many


class SqlPriceRepository:
    """Implements `ports.money.PriceRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def current(self) -> PostedPrice | None:
        row = self._driver.run(
            "SELECT price_micros_per_wu, set_by, set_at_us FROM posted_prices ORDER BY price_id DESC LIMIT 1"
        ).one_or_none()
        return (
            None if row is None else PostedPrice(price_micros_per_wu=row[0], set_by=row[1], set_at_us=row[2])
        )

    def append(self, price: PostedPrice) -> None:
        write_many(
            self._driver,
            "INSERT INTO posted_prices (price_id, price_micros_per_wu, set_by, set_at_us) "
            "VALUES ((SELECT COALESCE(MAX(price_id), 0) + 1 FROM posted_prices), ?, ?, ?)",
            [(price.price_micros_per_wu, price.set_by, price.set_at_us)],
        )
