"""Pays ten thousand owners with hostile names, of whom a hundred cannot be paid, and checks every promise.

Usage: `python -m benchmarks.payout_bar [--owners N] [--bad N] [--rejected N] [--folder DIR]`. Ends with an
error as soon as one check fails. A small run of it is part of the tests.

Owners enrol by typing hostile names: what the pool proposes they confirm, what it refuses they type as their
bank has it. Bad rows cannot come in that way; they are written straight into the table, as an older version's
would stand there.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pool_protocol.errors import PoolError
from pool_server.app import payouts
from pool_server.app.bank_status import ImportAnswer, import_status
from pool_server.app.earnings import release_held
from pool_server.app.money import fund_attempts
from pool_server.core.ledger import accounts as chart
from pool_server.core.payouts.bank_report import Outcome
from pool_server.core.payouts.model import PayoutDetails, RailName
from pool_server.core.payouts.row_state import RowState
from pool_server.core.settlement import AttemptFunding
from pool_server.rails.bank_directory import SchwiftyDirectory
from pool_server.rails.bank_reports import BankReports
from pool_server.rails.pain001 import Debtor, Pain001Rail
from tests.support.bank import Order, read_order, status_report
from tests.support.books import NEVER_US, TERMS, Books, settlement

#: Owners in one command.
CHUNK = 500
HOSTILE_NAMES = (
    "Ada Lovelace",
    "Łukasz Żółć",
    "Jürgen Groß",
    "Ελένη Παπαδοπούλου",
    "Сергій Ющенко",
    "O’Brien & Søn",
    "Ada_Lovelace",
    "ﬁnn “Haugen”",
    "Ada\u202eecalevoL",
    "Ada \U0001f697 Lovelace",
    "Ada\x00Lovelace",
    "Ada\x1b[31mLovelace",
    "<Nm>Ada</Nm>&amp;<!--",
    "]]></Nm><Amt>999</Amt>",
    '=HYPERLINK("http://evil.example")',
    "@SUM(A1:A9)",
    "-2+3+cmd|' /C calc'!A0",
    "李小龙",
    "محمد بن سلمان",
    "A" * 72,
    "",
    "   ",
    "123 456",
    "Dž\u0301 \u0300a",
)
#: What an older version's table may hold: (holder's name, IBAN, threshold, town, country, BIC, reason today).
BAD_ROWS = (
    ("Łukasz Żółć", "", 10_000, "Koeln", "DE", "", "HOLDER_NAME_NOT_SEPA"),
    ("Ada & Sons", "", 10_000, "Koeln", "DE", "", "HOLDER_NAME_NOT_SEPA"),
    ("Ada\x1b[31mLovelace", "", 10_000, "Koeln", "DE", "", "HOLDER_NAME_INVALID"),
    ("A" * 72, "", 10_000, "Koeln", "DE", "", "HOLDER_NAME_INVALID"),
    ("<script>", "", 10_000, "Koeln", "DE", "", "HOLDER_NAME_INVALID"),
    ("Ada Lovelace", "DE00370400440532013000", 10_000, "Koeln", "DE", "", "IBAN_INVALID"),
    ("Ada Lovelace", "AE070331234567890123456", 10_000, "Dubai", "AE", "", "IBAN_NOT_SEPA"),
    ("Ada Lovelace", "", 1, "Koeln", "DE", "", "THRESHOLD_INVALID"),
    ("Ada Lovelace", "", 10_000, "", "", "", "ADDRESS_MISSING"),
    ("Ada Lovelace", "", 10_000, "Köln", "DE", "", "ADDRESS_INVALID"),
    ("Ada Lovelace", "", 10_000, "Koeln", "XX", "", "ADDRESS_INVALID"),
    ("Ada Lovelace", "", 10_000, "Koeln", "DE", "NWBKGB2LXXX", "BIC_INVALID"),
)
REASON_CODES = ("AC04", "AC01", "AM05", "BE04", "MS03", "RR04", "AG01")
DEBTOR = Debtor(
    name="Chargepool Testing GmbH",
    iban="DE89370400440532013000",
    bic="COBADEFFXXX",
    town="Koeln",
    country="DE",
)


def iban_of(number: int) -> str:
    """A German IBAN of the Bundesbank, whose account numbers have no check digits of their own."""
    bban = f"10000000{number:010d}"
    return f"DE{98 - int(bban + '131400') % 97:02d}{bban}"


def expect(condition: object, promise: str) -> None:
    if not condition:
        raise SystemExit(f"broken: {promise}")


class Bar:
    """One run of the bar."""

    def __init__(self, folder: Path, *, owners: int, bad: int, rejected: int, seed: int = 1) -> None:
        self.books = Books(folder / "pool.sqlite3", durable=False)
        self.owners = [f"owner_{number:06d}" for number in range(owners)]
        self.bad_owners = dict(
            zip(self.owners[:: max(1, owners // bad)], _cycle(BAD_ROWS, bad), strict=False)
        )
        self.rejected = rejected
        self.random = random.Random(seed)  # noqa: S311 - the same run every time
        self.lines: list[str] = []
        self._started = time.perf_counter()

    def say(self, text: str) -> None:
        self.lines.append(f"{time.perf_counter() - self._started:7.1f} s  {text}")
        print(self.lines[-1], flush=True)

    def run(self) -> None:
        self.earn()
        self.enrol()
        view = self.plan_and_approve()
        content = self.export(view)
        order = read_order(content)
        self.check_file(content, order)
        self.bank_reports(order)
        self.check_books()

    def earn(self) -> None:
        """Every owner earns some micro-units: a few cents to some thousand euros."""
        books = self.books
        amounts = {owner: self.random.randint(20_000, 3_000_000_000) for owner in self.owners}
        total = sum(amounts.values())
        books.deposit(total)
        books.reserve(1, total)
        for start in range(0, len(self.owners), CHUNK):
            part = list(enumerate(self.owners[start : start + CHUNK], start=start + 1))
            items = [
                AttemptFunding(attempt_id=number, owner_id=owner, job_id=1, amount_micros=amounts[owner])
                for number, owner in part
            ]
            with books.command() as uow:
                pendings = fund_attempts(uow, items, expires_at_us=NEVER_US, now_us=books.now_us)
            books.settle(
                [
                    settlement(number, pending, owner_id=owner, gross_micros=amounts[owner])
                    for (number, owner), pending in zip(part, pendings, strict=True)
                ]
            )
        books.now_us += TERMS.dispute_window_us
        books.run(lambda uow: release_held(uow, now_us=books.now_us))
        self.say(f"{len(self.owners)} owners have earned {total // 1_000_000} EUR gross")

    def enrol(self) -> None:
        """Owners type hostile names; what cannot be enrolled today is written past the checks."""
        directory, books = SchwiftyDirectory(), self.books
        how: Counter[str] = Counter()
        for start in range(0, len(self.owners), CHUNK):
            with books.command() as uow:
                for number, owner in enumerate(self.owners[start : start + CHUNK], start=start):
                    if owner in self.bad_owners:
                        name, iban, threshold, town, country, bic, _ = self.bad_owners[owner]
                        details = PayoutDetails(
                            holder_name=name,
                            iban=iban or iban_of(number),
                            threshold_micros=threshold,
                            town=town,
                            country=country,
                            bic=bic,
                        )
                        uow.payouts.set_details(owner, details, now_us=books.now_us)
                        how["written past the checks"] += 1
                        continue
                    typed = HOSTILE_NAMES[number % len(HOSTILE_NAMES)]
                    details = PayoutDetails(
                        holder_name=typed,
                        iban=iban_of(number),
                        threshold_micros=10_000,
                        town="Köln",
                        country="DE",
                    )
                    for _ in range(4):
                        try:
                            checked = payouts.check_payout_details(uow, details)
                        except PoolError as error:
                            details = _answer(details, error)
                            continue
                        bic = directory.look_up(checked).bic
                        kept = payouts.set_payout_details(
                            uow, owner_id=owner, details=_with(checked, bic=bic), now_us=books.now_us
                        )
                        how["as typed" if kept.holder_name == typed else "confirmed or typed anew"] += 1
                        break
                    else:
                        raise SystemExit(f"{owner} could not enrol as {typed!r}")
        self.say("enrolled: " + ", ".join(f"{count} {what}" for what, count in sorted(how.items())))

    def plan_and_approve(self) -> payouts.PayoutView:
        books = self.books
        view = books.run(
            lambda uow: payouts.plan_payout(
                uow,
                operator_id="operator_a",
                idempotency_key="bar",
                now_us=books.now_us,
                rail=RailName.PAIN001,
            )
        )
        found = {row.owner_id: row.reason for row in view.quarantined}
        expect(
            found == {owner: row[-1] for owner, row in self.bad_owners.items()},
            "exactly the bad rows are quarantined, each for its own reason",
        )
        expect(len(view.rows) == len(self.owners) - len(found), "every other owner is paid")
        reasons = Counter(found.values())
        self.say(
            f"planned {len(view.rows)} payments; {len(found)} quarantined: "
            + ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        )
        approved = books.run(
            lambda uow: payouts.approve_payout(
                uow,
                payout_id=view.run.payout_id,
                operator_id="operator_b",
                expected_total_micros=view.run.total_micros,
                now_us=books.now_us,
            )
        )
        self.say(f"approved: {view.run.total_micros} micros are in clearing")
        return approved

    def export(self, view: payouts.PayoutView) -> bytes:
        rail = Pain001Rail(pool_id=TERMS.pool_id, debtor=DEBTOR)

        def export(operator_id: str, after_us: int) -> bytes:
            file, _ = self.books.run(
                lambda uow: payouts.export_payout(
                    uow,
                    payout_id=view.run.payout_id,
                    operator_id=operator_id,
                    rail=rail,
                    now_us=self.books.now_us + after_us,
                )
            )
            expect(hashlib.sha256(file.content).hexdigest() == file.sha256_hex, "the hash is the bytes'")
            return file.content

        first = export("operator_a", 0)
        self.say(f"exported and validated {len(first)} bytes")
        expect(export("operator_b", 86_400_000_000) == first, "a later export gives the same bytes")
        again = self.books.run(lambda uow: payouts.get_payout(uow, payout_id=view.run.payout_id))
        expect(
            rail.render(again.run, again.to_send()).content == first, "a new rendering gives the same bytes"
        )
        self.say("re-exported: the same bytes; rendered anew from the rows: the same bytes")
        return first

    def check_file(self, content: bytes, order: Order) -> None:
        from xmlschema import XMLSchema

        spec = find_spec("sepaxml")
        expect(spec is not None and bool(spec.submodule_search_locations), "the schema is installed")
        folder = Path(spec.submodule_search_locations[0])  # type: ignore[union-attr, index]
        XMLSchema(folder / "schemas" / "pain.001.001.09.xsd").validate(content.decode())
        clearing = self.books.balances()[chart.PAYOUT_CLEARING.name]
        expect(
            order.control_cents * 10_000 == clearing == order.cents() * 10_000,
            "the control sum is the ledger's",
        )
        expect(order.count == len(order.payments), "the number of payments is right")
        sums: dict[str, list[int]] = {}
        for payment in order.payments:
            entry = sums.setdefault(payment.block, [0, 0])
            entry[0] += 1
            entry[1] += payment.cents
        expect(
            order.block_sums == {block: tuple(s) for block, s in sums.items()}, "each block's sums are right"
        )
        expect(len({p.reference for p in order.payments}) == order.count, "no reference twice")
        allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-?:().,'+ ")
        expect(all(set(p.name + p.town) <= allowed for p in order.payments), "only SEPA's characters")
        expect(all(0 < len(p.name) <= 70 and len(p.reference) <= 35 for p in order.payments), "lengths hold")
        self.say(
            f"the XSD takes it; {order.count} payments in {len(sums)} blocks, control sum "
            f"{order.control_cents / 100:.2f} EUR = clearing"
        )

    def bank_reports(self, order: Order) -> None:
        picked = self.random.sample([p.reference for p in order.payments], self.rejected)
        rejected = {
            reference: REASON_CODES[place % len(REASON_CODES)] for place, reference in enumerate(picked)
        }
        statuses = {reference: ("RJCT", code) for reference, code in rejected.items()}
        report = status_report(order, statuses, group="PART")
        before = self.books.balances()
        answer = self.take(report)
        owner_of = {row.reference: row.owner_id for row in self.view().rows}
        applied = [result for result in answer.results if result.outcome is Outcome.APPLIED]
        expect(
            {r.reference: r.reason_code for r in applied} == rejected,
            "exactly the rejected payments come back",
        )
        changed = {
            name: amount - before.get(name, 0)
            for name, amount in self.books.balances().items()
            if amount != before.get(name, 0)
        }
        amounts = {p.reference: p.cents * 10_000 for p in order.payments}
        expected = {
            chart.owner_available_name(owner_of[reference]): amounts[reference] for reference in rejected
        }
        expected[chart.PAYOUT_CLEARING.name] = -sum(expected.values())
        expect(changed == expected, "the money goes back to just these owners")
        back = -expected[chart.PAYOUT_CLEARING.name]
        self.say(f"a pain.002 rejects {len(rejected)}: exactly those came back, {back} micros")

        again = self.take(report)
        expect(again.was_known and again.results == answer.results, "the same file gives the same answer")
        settled = status_report(order, {}, group="ACSC")
        answer = self.take(settled)
        outcomes = Counter(result.outcome for result in answer.results)
        expect(outcomes[Outcome.APPLIED] == order.count - len(rejected), "the others are settled")
        view = self.view()
        states = Counter(view.state_of(row) for row in view.rows)
        expect(
            states == {RowState.SETTLED: order.count - len(rejected), RowState.REJECTED: len(rejected)},
            "every payment is settled or rejected",
        )
        expect(chart.PAYOUT_CLEARING.name not in self.books.balances(), "clearing is empty")
        count = outcomes[Outcome.APPLIED]
        self.say(f"the same file again: the same answer; a second one settles {count}; clearing is 0")

    def take(self, content: bytes) -> ImportAnswer:
        report = BankReports().read(content)
        return self.books.run(
            lambda uow: import_status(
                uow,
                report=report,
                content=content,
                file_name="report.xml",
                operator_id="operator_a",
                now_us=self.books.now_us,
            )
        )

    def view(self) -> payouts.PayoutView:
        return self.books.run(lambda uow: payouts.get_payout(uow, payout_id=1))

    def check_books(self) -> None:
        report = self.books.assert_sound()
        self.say(
            f"ledger check: all {len(report.checks)} invariants hold over {report.transfer_count} transfers"
        )


def _cycle(
    rows: Sequence[tuple[str, str, int, str, str, str, str]], count: int
) -> list[tuple[str, str, int, str, str, str, str]]:
    return [rows[number % len(rows)] for number in range(count)]


def _with(details: PayoutDetails, *, bic: str) -> PayoutDetails:
    from dataclasses import replace

    return replace(details, bic=bic)


def _answer(details: PayoutDetails, error: PoolError) -> PayoutDetails:
    """What an owner does about a refusal: confirm the proposal, or type the name as the bank has it."""
    from dataclasses import replace

    field = error.context["field"]
    instead = error.context.get("proposal") or {"holder_name": "Ada Lovelace", "town": "Koeln"}[field]
    return replace(details, **{field: instead})  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--owners", type=int, default=10_000)
    parser.add_argument("--bad", type=int, default=100)
    parser.add_argument("--rejected", type=int, default=7)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        Bar(asked.folder or Path(scratch), owners=asked.owners, bad=asked.bad, rejected=asked.rejected).run()


if __name__ == "__main__":
    main()
