"""Random operations on a real ledger, every answer and counter predicted by an independent auditor.

    python -m benchmarks.ledger_auditor [--operations 100000] [--seed 1] [--postgresql | --database-url URL]

Then the database's books are checked from their log, as `pool-server ledger check` does, and written as
journals, which bean-check and hledger must accept, and refuse with an error of one micro-unit in them. Prints
counts by operation and outcome, the list of checks, and one line of JSON last. A SQLite file is made and
thrown away; or a PostgreSQL is started for the run (`--postgresql`, of the development requirements); or the
database at a URL is used, which must be empty. The same seed repeats a run.
"""

import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from pool_server.app.books_export import JournalFormat
from pool_server.core.ledger.model import Outcome
from pool_server.store.engine import open_engine
from pool_server.store.migrations import upgrade
from tests.support import databases
from tests.support.accounting import HLEDGER_MISSING, complaint_of, planted, write_journal
from tests.support.ledger_audit import LedgerAudit
from tests.support.ledger_workload import Workload

COMPARE_EVERY = 1_000
#: As under group commit: commands that wait together share one.
COMMANDS_PER_COMMIT = 20


@click.command()
@click.option("--operations", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--database-url", default="", help="An empty database; default: a SQLite file.")
@click.option("--postgresql", is_flag=True, help="On a PostgreSQL that is started for this run.")
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep journals and file in this folder."
)
def main(operations: int, seed: int, database_url: str, keep: Path | None, *, postgresql: bool) -> None:
    """Run the audit; exit status 1 when a check or an accounting program finds something."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        url = database_url or f"sqlite:///{folder / 'ledger.sqlite3'}"
        if postgresql:
            os.environ[databases.CHOICE] = "postgresql"
            empty = databases.open_empty(Path("ledger-audit"))
            url = empty.url.render_as_string(hide_password=False)
            empty.dispose()
        sys.exit(run(operations, seed, url, folder))


def run(operations: int, seed: int, url: str, folder: Path) -> int:
    """Run it on a database; return the exit status."""
    engine = open_engine(url)
    upgrade(engine)
    audit = LedgerAudit(engine, commands_per_commit=COMMANDS_PER_COMMIT)
    workload = Workload.of_seed(audit, seed)
    started = time.perf_counter()
    workload.begin()
    workload.run(operations, check_every=COMPARE_EVERY)
    audit.commit()
    seconds = time.perf_counter() - started
    _print_counts(audit.counts)
    missing = sorted({outcome.value for outcome in Outcome} - {word for _, word in audit.counts})
    click.echo(
        f"\n{workload.operations} operations from seed {seed}, every answer and counter as predicted; "
        f"{audit.paper.transfers} transfers, {len(audit.names)} accounts, {audit.commits} commits, "
        f"{seconds:.1f} s" + (f"\noutcomes that did not occur: {', '.join(missing)}" if missing else "")
    )
    report = audit.check()
    click.echo("\nledger check")
    for check in report.checks:
        click.echo(f"  {'yes' if check.ok else 'NO '}  {check.name:32} {check.detail}")
    programs = _journals(audit, folder)
    engine.dispose()
    ok = report.ok and not missing and all(said == "accepted" for said in programs.values())
    click.echo(
        json.dumps(
            {
                "operations": workload.operations,
                "seed": seed,
                "database": engine.dialect.name,
                "transfers": audit.paper.transfers,
                "seconds": round(seconds, 1),
                "ledger_check": report.ok,
                **programs,
                "ok": ok,
            }
        )
    )
    return 0 if ok else 1


def _journals(audit: LedgerAudit, folder: Path) -> dict[str, str]:
    """Write both journals and have them checked; return by program what it said."""
    said = {}
    for program, journal_format in (
        ("bean-check", JournalFormat.BEANCOUNT),
        ("hledger", JournalFormat.HLEDGER),
    ):
        path = folder / f"books.{journal_format.value}"
        with audit.reading() as uow:
            write_journal(uow, journal_format, path)
        complaint = complaint_of(journal_format, path)
        said[program] = "not installed" if complaint is None else complaint[-200:] or "accepted"
        size_mib = path.stat().st_size / 2**20
        click.echo(f"{program}: {said[program]} ({size_mib:.1f} MiB)")
        if complaint is None:
            click.echo(f"  {HLEDGER_MISSING}")
            continue
        for place, wrong in planted(journal_format, path.read_text(encoding="ascii")).items():
            bad = folder / f"planted.{journal_format.value}"
            bad.write_text(wrong, encoding="ascii")
            is_refused = bool(complaint_of(journal_format, bad))
            click.echo(f"  an error of one micro-unit, {place}: {'refused' if is_refused else 'ACCEPTED'}")
            if not is_refused:
                said[program] = f"accepts an error of one micro-unit in {place}"
    return said


def _print_counts(counts: Counter[tuple[str, str]]) -> None:
    """Print by operation how often it came to what; linked ones beside those that stand alone."""
    by_operation: dict[str, Counter[str]] = {}
    for (operation, outcome), count in counts.items():
        by_operation.setdefault(operation, Counter())[outcome] += count
    for operation, outcomes in sorted(by_operation.items()):
        click.echo(f"{operation}: {sum(outcomes.values())}")
        click.echo("  " + ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common()))


if __name__ == "__main__":
    main()
