"""The revisions build exactly what the models describe, and a database is upgraded whole or not at all."""

import re
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect

from pool_protocol.limits import DAY_US
from pool_server.app.ledger_check import check_ledger
from pool_server.app.money import release_job
from pool_server.store.driver import Driver
from pool_server.store.migrations import config, current_revision, upgrade
from pool_server.store.schema import create_all
from pool_server.store.statements import insert_many
from pool_server.store.tables import METADATA
from tests.support import databases
from tests.support.books import Books

pytestmark = pytest.mark.usefixtures("on_both_databases")


def engine_at(path: Path) -> Engine:
    return databases.open_empty(path)


@pytest.fixture
def migrated(tmp_path: Path) -> Engine:
    engine = engine_at(tmp_path / "migrated.sqlite3")
    upgrade(engine)
    return engine


@pytest.fixture
def created(tmp_path: Path) -> Engine:
    engine = engine_at(tmp_path / "created.sqlite3")
    create_all(engine)
    return engine


def one_line(sql: str) -> str:
    return re.sub(r"\s+", " ", sql.replace('"', "").replace("IF NOT EXISTS ", "")).strip()


def _described_by_sqlite(engine: Engine) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    with engine.begin() as connection:
        for name, sql in connection.exec_driver_sql(
            "SELECT type || ' ' || name, sql FROM sqlite_master "
            "WHERE type IN ('index', 'trigger') AND sql <> ''"
        ):
            schema[name] = one_line(sql)
        for name, sql in connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name <> 'alembic_version'"
        ):
            schema[f"options of {name}"] = re.findall(r"WITHOUT ROWID|STRICT", sql)
    return schema


def _described_by_server(engine: Engine) -> dict[str, Any]:
    with engine.begin() as connection:
        rows = connection.exec_driver_sql(
            "SELECT 'index ' || indexname, indexdef FROM pg_indexes "
            "WHERE schemaname = 'public' AND tablename <> 'alembic_version' UNION ALL "
            "SELECT 'trigger ' || tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal "
            "UNION ALL SELECT 'function ' || proname, prosrc FROM pg_proc WHERE proname LIKE 'chargepool%%' "
            "UNION ALL SELECT 'collation of ' || table_name || '.' || column_name, "
            "coalesce(collation_name, '') || is_identity FROM information_schema.columns "
            "WHERE table_schema = 'public' AND table_name <> 'alembic_version'"
        )
        return {name: one_line(sql) for name, sql in rows}


def described(engine: Engine) -> dict[str, Any]:
    """Everything about a schema that behaviour depends on, so that two databases can be compared."""
    inspector = inspect(engine)
    schema: dict[str, Any] = {}
    for table in inspector.get_table_names():
        if table == "alembic_version":
            continue
        schema[f"columns of {table}"] = [
            (column["name"], str(column["type"]), column["nullable"], column["default"])
            for column in inspector.get_columns(table)
        ]
        schema[f"key of {table}"] = inspector.get_pk_constraint(table)["constrained_columns"]
        schema[f"checks of {table}"] = sorted(
            (str(check["name"]), one_line(check["sqltext"]))
            for check in inspector.get_check_constraints(table)
        )
        schema[f"foreign keys of {table}"] = sorted(
            (key["constrained_columns"], key["referred_table"], key["referred_columns"])
            for key in inspector.get_foreign_keys(table)
        )
    schema.update(
        _described_by_sqlite(engine) if databases.chosen() == "sqlite" else _described_by_server(engine)
    )
    return schema


def test_migrations_and_models_are_one_schema(migrated: Engine, created: Engine) -> None:
    from_migrations, from_models = described(migrated), described(created)

    assert sorted(from_migrations) == sorted(from_models)
    differing = {
        name: (from_migrations[name], from_models[name])
        for name in from_models
        if from_migrations[name] != from_models[name]
    }
    assert differing == {}


def test_alembic_finds_nothing_left_to_migrate(migrated: Engine) -> None:
    with migrated.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_the_comparison_sees_a_missing_trigger_and_a_missing_index(migrated: Engine, created: Engine) -> None:
    with created.begin() as connection:
        of_table = " ON transfers" if databases.chosen() == "postgresql" else ""
        connection.exec_driver_sql(f"DROP TRIGGER transfers_no_update{of_table}")
        connection.exec_driver_sql("DROP INDEX transfer_resolves_once")

    missing = set(described(migrated)) - set(described(created))
    assert missing == {"trigger transfers_no_update", "index transfer_resolves_once"}


def test_upgrading_again_changes_nothing(migrated: Engine) -> None:
    before = described(migrated)

    upgrade(migrated)

    assert described(migrated) == before
    assert current_revision(migrated) is not None


def test_an_empty_database_has_no_revision(tmp_path: Path) -> None:
    assert current_revision(engine_at(tmp_path / "empty.sqlite3")) is None


def test_an_upgrade_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    engine = engine_at(tmp_path / "half.sqlite3")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE transfers (in_the_way INTEGER)")

    with pytest.raises(Exception, match=r'transfers"? already exists'):
        upgrade(engine)

    assert current_revision(engine) is None
    assert inspect(engine).get_table_names() == ["transfers"]


def test_books_on_a_migrated_database_are_sound(tmp_path: Path) -> None:
    path = tmp_path / "pool.sqlite3"
    upgrade(engine_at(path))
    books = Books(path)
    books.deposit(1_000_000)
    books.reserve(1, 500_000)
    books.earn("owner_a", [1_000, 2_000], first_attempt=1)

    upgrade(books.engine)

    assert books.run(check_ledger).ok


def test_what_was_reserved_before_there_were_caps_counts_in_them(tmp_path: Path) -> None:
    # 1. Books with jobs that run, that ended, and that spent some of what was reserved.
    books = Books(tmp_path / "books.sqlite3")
    books.deposit(1_000_000)
    books.deposit(1_000_000, buyer_id="buyer_c", reference="bank-2")
    books.reserve(1, 5_000)
    books.reserve(2, 3_000, buyer_id="buyer_c")
    books.reserve(3, 2_000)
    books.earn("owner_a", [700], first_attempt=1, job_id=3)
    books.now_us += 40 * DAY_US
    books.reserve(1, 1_000)
    books.run(lambda uow: release_job(uow, buyer_id="buyer_b", job_id=3, now_us=books.now_us))
    # 2. The same accounts and transfers in a database of before; then it is upgraded.
    before = engine_at(tmp_path / "before.sqlite3")
    with before.begin() as connection:
        command.upgrade(config(connection), "0002")
    for table in ("accounts", "transfers"):
        rows = books.rows(f"SELECT * FROM {table} ORDER BY 1")
        with before.begin() as connection:
            names = [column["name"] for column in inspect(connection).get_columns(table)]
            insert_many(Driver(connection), table, ", ".join(names), rows)
    upgrade(before)
    # 3. All is counted as if there had been caps from the first.
    for columns, table, figure in (
        ("holder, subject_id, period, used_micros", "spend_counters", "used_micros"),
        ("job_id, month, token_id, buyer_id, amount_micros", "job_reservations", "amount_micros"),
    ):
        query = f"SELECT {columns} FROM {table} WHERE {figure} > 0 ORDER BY 1, 2, 3"
        with before.begin() as connection:
            found = [tuple(row) for row in connection.exec_driver_sql(query)]
        assert found == books.rows(query)
        assert len(found) >= 3
