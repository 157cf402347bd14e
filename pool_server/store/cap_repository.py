"""Caps in SQL: guarded updates of counters, below constraints that hold whatever is asked."""

from collections.abc import Sequence
from typing import Any

from pool_protocol.errors import InvariantError
from pool_server.core.caps import EVER, CapHolder, CapPeriod, CounterKey, SpendCounter, month_of, period_of
from pool_server.ports.caps import JobReservation
from pool_server.store.driver import Driver

_LIMIT = "(SELECT limit_micros FROM spend_limits WHERE holder = ? AND subject_id = ? AND period = ?)"
_OPEN = (
    "INSERT INTO spend_counters (holder, subject_id, period, used_micros, limit_micros, cap_micros) "
    f"VALUES (?, ?, ?, 0, {_LIMIT}, {_LIMIT}) ON CONFLICT (holder, subject_id, period) DO NOTHING"
)
_KEY = "holder = ? AND subject_id = ? AND period = ?"
_USE = (
    "UPDATE spend_counters SET used_micros = used_micros + ? "
    f"WHERE {_KEY} AND (cap_micros IS NULL OR used_micros + ? <= cap_micros)"
)
_GIVE_BACK = (
    "UPDATE spend_counters SET used_micros = used_micros - ?, "
    "cap_micros = CASE WHEN used_micros - ? > limit_micros THEN used_micros - ? ELSE limit_micros END "
    f"WHERE {_KEY}"
)
_SET_CAP = (
    "UPDATE spend_counters SET limit_micros = ?, "
    f"cap_micros = CASE WHEN used_micros > ? THEN used_micros ELSE ? END WHERE {_KEY}"
)
_NO_CAP = f"UPDATE spend_counters SET limit_micros = NULL, cap_micros = NULL WHERE {_KEY}"
_SUBJECT_COUNTERS = (
    "SELECT c.holder, c.subject_id, c.period, c.used_micros, c.limit_micros FROM spend_counters AS c "
    "WHERE c.period IN (?, ?) AND "
)


class SqlCapRepository:
    """Implements `ports.caps.CapRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def set_limit(
        self,
        holder: CapHolder,
        subject_id: str,
        period: CapPeriod,
        *,
        limit_micros: int | None,
        set_by: str,
        now_us: int,
    ) -> None:
        named = (holder.value, subject_id, period.value)
        counter = CounterKey(holder, subject_id, EVER if period is CapPeriod.EVER else month_of(now_us))
        if limit_micros is None:
            self._driver.run(f"DELETE FROM spend_limits WHERE {_KEY}", named)
            self._driver.run(_NO_CAP, _values(counter))
            return
        self._driver.run(
            "INSERT INTO spend_limits (holder, subject_id, period, limit_micros, set_by, set_at_us) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (holder, subject_id, period) DO UPDATE SET "
            "limit_micros = excluded.limit_micros, set_by = excluded.set_by, set_at_us = excluded.set_at_us",
            (*named, limit_micros, set_by, now_us),
        )
        # Without a counter the cap could be read nowhere until something is reserved.
        self._open(counter)
        self._driver.run(_SET_CAP, (limit_micros, limit_micros, limit_micros, *_values(counter)))

    def use(self, keys: Sequence[CounterKey], amount_micros: int) -> SpendCounter | None:
        for key in keys:
            self._open(key)
            changed = self._driver.run(_USE, (amount_micros, *_values(key), amount_micros)).rowcount
            if changed != 1:
                [full] = self._read("c.holder = ? AND c.subject_id = ?", (key.period, "", *_values(key)[:2]))
                return full
        return None

    def give_back(self, keys: Sequence[CounterKey], amount_micros: int) -> None:
        for key in keys:
            changed = self._driver.run(
                _GIVE_BACK, (amount_micros, amount_micros, amount_micros, *_values(key))
            ).rowcount
            if changed != 1:
                raise InvariantError(f"there is no counter {key} to give {amount_micros} back to")

    def add_reservation(self, reservation: JobReservation) -> None:
        self._driver.run(
            "INSERT INTO job_reservations (job_id, month, token_id, buyer_id, amount_micros) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (job_id, month, token_id) DO UPDATE SET "
            "amount_micros = job_reservations.amount_micros + excluded.amount_micros",
            reservation,
        )

    def reservations(self, job_id: int) -> list[JobReservation]:
        rows = self._driver.run(
            "SELECT job_id, month, token_id, buyer_id, amount_micros FROM job_reservations "
            "WHERE job_id = ? AND amount_micros > 0 ORDER BY month DESC, token_id",
            (job_id,),
        )
        return [JobReservation._make(row) for row in rows]

    def take_reservation(self, reservation: JobReservation, amount_micros: int) -> None:
        self._driver.run(
            "UPDATE job_reservations SET amount_micros = amount_micros - ? "
            "WHERE job_id = ? AND month = ? AND token_id = ?",
            (amount_micros, reservation.job_id, reservation.month, reservation.token_id),
        )

    def counters(self, *, buyer_id: str, month: str) -> list[SpendCounter]:
        return self._read(
            "((c.holder = 'account' AND c.subject_id = ?) OR (c.holder = 'token' AND c.subject_id IN "
            "(SELECT token_id FROM tokens WHERE principal_id = ?)))",
            (EVER, month, buyer_id, buyer_id),
        )

    def counters_of(self, holder: CapHolder, subject_id: str, *, month: str) -> list[SpendCounter]:
        # A cap of the month holds before anything was reserved in it: its counter comes with the first.
        found = {
            counter.key.period: counter
            for counter in self._read(
                "c.holder = ? AND c.subject_id = ?", (EVER, month, holder.value, subject_id)
            )
        }
        return [
            found.get(period) or self._unopened(CounterKey(holder, subject_id, period))
            for period in (EVER, month)
        ]

    def _unopened(self, key: CounterKey) -> SpendCounter:
        limit = self._driver.run(
            "SELECT limit_micros FROM spend_limits WHERE holder = ? AND subject_id = ? AND period = ?",
            (*_values(key)[:2], period_of(key).value),
        ).scalar_one_or_none()
        return SpendCounter(key=key, used_micros=0, limit_micros=limit)

    def _open(self, key: CounterKey) -> None:
        of_limit = (*_values(key)[:2], period_of(key).value)
        self._driver.run(_OPEN, (*_values(key), *of_limit, *of_limit))

    def _read(self, where: str, parameters: tuple[Any, ...]) -> list[SpendCounter]:
        rows = self._driver.run(
            f"{_SUBJECT_COUNTERS}{where} ORDER BY c.holder, c.subject_id, c.period DESC", parameters
        )
        return [
            SpendCounter(
                key=CounterKey(CapHolder(row[0]), row[1], row[2]), used_micros=row[3], limit_micros=row[4]
            )
            for row in rows
        ]


def _values(key: CounterKey) -> tuple[str, str, str]:
    return (key.holder.value, key.subject_id, key.period)
