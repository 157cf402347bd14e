"""A payout's whole road on real books, step by step as operators and owners take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pool_server.app import payouts
from pool_server.app.account_events import account_events
from pool_server.app.bank_status import ImportAnswer, import_status
from pool_server.app.earnings import owner_earnings, release_held
from pool_server.app.leaving import LeavingView, close_out
from pool_server.app.payout_review import PayoutReview, review_payout
from pool_server.app.principals import CreatePrincipal, create_principal
from pool_server.core.payouts.model import RailName
from pool_server.core.payouts.row_state import RowState
from pool_server.ports.shell import Role
from pool_server.rails.bank_reports import BankReports
from pool_server.rails.pain001 import Debtor, Pain001Rail
from tests.support.bank import Order, read_order
from tests.support.books import TERMS, Books
from tests.support.payees import DETAILS, IBAN

OTHER_IBAN = "GB29NWBK60161331926819"
DEBTOR = Debtor(name="Chargepool GmbH", iban=IBAN)
OWNERS = tuple(f"owner_{letter * 26}" for letter in "abcd")
A, B, C, D = OWNERS


class Road(Books):
    """Books with owners who have earned, and the steps of a payout as an operator takes them."""

    def earn_and_enrol(self, amounts: Mapping[str, int], *, first_attempt: int = 1) -> None:
        for number, (owner, amount) in enumerate(amounts.items()):
            self.earn(owner, [amount], first_attempt=first_attempt + number)
        self.now_us += TERMS.dispute_window_us
        self.run(lambda uow: release_held(uow, now_us=self.now_us))
        for owner in amounts:
            self.enrol(owner)

    def enrol(self, owner: str, **changes: object) -> None:
        details = replace(DETAILS, **changes)  # type: ignore[arg-type]
        self.run(
            lambda uow: payouts.set_payout_details(uow, owner_id=owner, details=details, now_us=self.now_us)
        )

    def plan(self, key: str = "one") -> payouts.PayoutView:
        return self.run(
            lambda uow: payouts.plan_payout(
                uow,
                operator_id="operator_a",
                idempotency_key=key,
                now_us=self.now_us,
                rail=RailName.PAIN001,
            )
        )

    def approve(self, view: payouts.PayoutView) -> payouts.PayoutView:
        return self.run(
            lambda uow: payouts.approve_payout(
                uow,
                payout_id=view.run.payout_id,
                operator_id="operator_b",
                expected_total_micros=view.run.total_micros,
                now_us=self.now_us,
            )
        )

    def send(self, key: str = "one") -> Order:
        """Plan, approve, export."""
        view = self.approve(self.plan(key))
        file, _ = self.run(
            lambda uow: payouts.export_payout(
                uow,
                payout_id=view.run.payout_id,
                operator_id="operator_a",
                rail=Pain001Rail(pool_id=TERMS.pool_id, debtor=DEBTOR),
                now_us=self.now_us,
            )
        )
        return read_order(file.content)

    def take(self, content: bytes, name: str = "report.xml") -> ImportAnswer:
        report = BankReports().read(content)
        return self.run(
            lambda uow: import_status(
                uow,
                report=report,
                content=content,
                file_name=name,
                operator_id="operator_a",
                now_us=self.now_us,
            )
        )

    def view(self, payout_id: int = 1) -> payouts.PayoutView:
        return self.run(lambda uow: payouts.get_payout(uow, payout_id=payout_id))

    def states(self, payout_id: int = 1) -> dict[str, RowState]:
        view = self.view(payout_id)
        return {row.owner_id: view.state_of(row) for row in view.rows}

    def review(self, payout_id: int) -> PayoutReview:
        return self.run(lambda uow: review_payout(uow, payout_id=payout_id))

    def news(self, owner: str) -> dict[str, str]:
        return {
            event.code: event.message
            for event in self.run(lambda uow: account_events(uow, owner_id=owner, limit=50))
        }

    def paid(self, owner: str) -> int:
        return self.run(
            lambda uow: owner_earnings(uow, owner_id=owner, days=0, now_us=self.now_us).paid_micros
        )

    def leave(self, owner: str) -> LeavingView:
        return self.run(lambda uow: close_out(uow, owner_id=owner, asked_by="operator_a", now_us=self.now_us))


def net(gross_micros: int) -> int:
    return gross_micros - gross_micros * TERMS.fee_ppm // 1_000_000


def whole_cents(amount_micros: int) -> int:
    return amount_micros // 10_000 * 10_000


def road_with_owners(path: Path) -> Road:
    """Books with four owners, none of whom has earned yet."""
    road = Road(path)
    for owner in OWNERS:
        command = CreatePrincipal(
            role=Role.OWNER,
            name="Ada",
            principal_id="",
            new_principal_id=owner,
            token_id=f"token_{owner}",
            token_sha256=owner.encode(),
            token_expires_at_us=0,
        )
        road.run(lambda uow, command=command: create_principal(uow, command, now_us=road.now_us))  # type: ignore[misc]
    road.deposit(1_000_000_000)
    road.reserve(1, 900_000_000)
    return road
