"""What happened on an owner's account, told in plain sentences: vehicles, verified work, payouts.

Read from what the books and the work keep anyway; nothing is stored for it.
"""

from collections.abc import Iterator

from pool_protocol import amounts
from pool_server.app.particulars import locale_of
from pool_server.app.payout_news import AccountEventValue, payout_news
from pool_server.core.fleet import VehicleState
from pool_server.ports.fleet import WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.verification import LookBackState

#: Vehicles looked at, and events of each: an owner has a few cars, and leases come and go without news.
_VEHICLES_MAX = 50
_EVENTS_PER_VEHICLE = 200
_RECEIPTS_MAX = 1_000

_SENTENCES: dict[str, tuple[str, str]] = {
    VehicleState.ENROLLED.value: ("ENROLLED", "{label} joined the pool."),
    VehicleState.QUARANTINED.value: ("QUARANTINED", "{label} was put in quarantine: {cause}."),
    VehicleState.LOST.value: ("LOST", "{label} has not been heard of for a while."),
    VehicleState.RETIRED.value: ("RETIRED", "{label} left the pool."),
}


def account_events(uow: UnitOfWork, *, owner_id: str, limit: int) -> list[AccountEventValue]:
    """Return an owner's news, newest first."""
    labels = {vehicle.vehicle_id: vehicle.label for vehicle in uow.identity.vehicles_of(owner_id)}
    # What follows from something else stands before it, for news of the same microsecond.
    news = [
        *payout_news(uow, owner_id),
        *_receipt_news(uow, owner_id, labels),
        *look_back_news(uow, labels),
        *_vehicle_news(uow, labels),
    ]
    return sorted(news, key=lambda event: event.at_us, reverse=True)[:limit]


def _vehicle_news(uow: UnitOfWork, labels: dict[str, str]) -> list[AccountEventValue]:
    news: list[AccountEventValue] = []
    for vehicle_id in list(labels)[-_VEHICLES_MAX:]:
        for event in uow.events.newest("vehicle", vehicle_id, limit=_EVENTS_PER_VEHICLE):
            told = _vehicle_sentence(event, labels[vehicle_id])
            if told is not None:
                code, message = told
                news.append(
                    AccountEventValue(at_us=event.at_us, code=code, message=message, vehicle_id=vehicle_id)
                )
    return news


def _vehicle_sentence(event: WorkEvent, label: str) -> tuple[str, str] | None:
    if event.from_state == VehicleState.QUARANTINED and event.to_state == VehicleState.AVAILABLE:
        return "RELEASED", f"{label} was freed from quarantine."
    told = None if event.from_state == event.to_state else _SENTENCES.get(event.to_state)
    if told is None:
        return None
    return told[0], told[1].format(label=label, cause=event.cause.rstrip("."))


def look_back_news(uow: UnitOfWork, labels: dict[str, str]) -> list[AccountEventValue]:
    """Tell that results are checked again, and what came of it."""
    news: list[AccountEventValue] = []
    for vehicle_id in list(labels)[-_VEHICLES_MAX:]:
        for look_back in uow.verification.look_backs_of_vehicle(vehicle_id):
            label, count = labels[vehicle_id], look_back.questioned_count
            if look_back.state is LookBackState.OPENING or not count:
                continue
            news.append(
                AccountEventValue(
                    at_us=look_back.opened_at_us,
                    code="LOOK_BACK",
                    message=f"{label}: a result failed a check; {count} earlier ones are computed again by "
                    "others, and their money waits until then.",
                    vehicle_id=vehicle_id,
                )
            )
            if look_back.state is LookBackState.DONE:
                wrong = look_back.wrong_count
                news.append(
                    AccountEventValue(
                        at_us=look_back.closed_at_us,
                        code="LOOK_BACK_DONE",
                        message=f"{label}: {count} results were checked again; {wrong} proved wrong and are "
                        "not paid, the others' money was given back.",
                        vehicle_id=vehicle_id,
                    )
                )
        news.extend(_class_news(uow, vehicle_id, labels[vehicle_id]))
    return news


def _class_news(uow: UnitOfWork, vehicle_id: str, label: str) -> Iterator[AccountEventValue]:
    for recheck in uow.verification.class_rechecks(vehicle_id):
        count, wrong = recheck.questioned_count, recheck.wrong_count
        yield AccountEventValue(
            at_us=recheck.opened_at_us,
            code="LOOK_BACK",
            message=f"{label}: machines of its kind were found to compute a program wrongly, by no fault of "
            f"yours; {count} earlier results are computed again by others, and their money waits until then.",
            vehicle_id=vehicle_id,
        )
        if recheck.closed_at_us:
            yield AccountEventValue(
                at_us=recheck.closed_at_us,
                code="LOOK_BACK_DONE",
                message=f"{label}: {count} results were checked again; {wrong} proved wrong and are not "
                "paid, the others' money was given back.",
                vehicle_id=vehicle_id,
            )


def _receipt_news(uow: UnitOfWork, owner_id: str, labels: dict[str, str]) -> list[AccountEventValue]:
    """Tell verified work per signed batch and vehicle: one line for one submit, not one per attempt."""
    sums: dict[tuple[int, str], list[int]] = {}
    for row in uow.receipts.by_owner(owner_id, before_receipt_id=0, vehicle_id="", limit=_RECEIPTS_MAX):
        entry = sums.setdefault((row.batch_id, row.vehicle_id), [row.verified_at_us, 0, 0])
        entry[1] += 1
        entry[2] += row.net_micros
    locale = locale_of(uow, owner_id)
    return [
        AccountEventValue(
            at_us=at_us,
            code="VERIFIED",
            message=(
                f"{labels.get(vehicle_id, vehicle_id)}: {count} verified,"
                f" {amounts.amount(net_micros, uow.terms.currency, locale=locale)} net."
            ),
            vehicle_id=vehicle_id,
        )
        for (_, vehicle_id), (at_us, count, net_micros) in sums.items()
    ]
