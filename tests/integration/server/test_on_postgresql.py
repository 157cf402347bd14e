"""A real pool on PostgreSQL: made, run, worked, capped, started anew; and what is refused in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.system import SystemClock, SystemIds
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import caps_service_pb2 as caps_pb
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import market_service_pb2 as market_pb
from pool_server.cli.root import cli
from pool_server.config import config_from
from pool_server.main.initialize import initialize_pool
from pool_server.main.serve import PoolServer
from tests.support import databases
from tests.support.fake_car import FakeBuyer, FakeCar, vet_without_jax
from tests.support.pool import TEST_CONFIG, PoolHandle, PrincipalHandle, running_pool


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty database on a PostgreSQL server."""
    monkeypatch.setenv(databases.CHOICE, "postgresql")
    return databases.url_of_empty(tmp_path / "pool")


def operate(pool: PoolHandle, *arguments: str, expect: int = 0) -> str:
    done = CliRunner().invoke(cli, ["--data", str(pool.data_dir), *arguments])
    assert done.exit_code == expect, done.output
    return done.output


def buyer_with_caps(pool: PoolHandle) -> FakeBuyer:
    """A buyer whose account may spend 2,000, and its token 1,500."""
    made: dict[str, Any] = json.loads(
        operate(
            pool,
            *("principals", "create", "--role", "buyer", "--name", "Bea", "--max-spend-micros", "2000"),
            *("--token-max-spend-micros", "1500", "--json"),
        )
    )
    principal = PrincipalHandle(
        principal_id=made["principal_id"], token=made["token"], token_id=made["token_id"], role="buyer"
    )
    pool.deposit(principal, 10_000_000)
    return FakeBuyer(pool=pool, principal=principal)


def job_of(buyer: FakeBuyer, key: str, budget_micros: int) -> market_pb.CreateJobRequest:
    return market_pb.CreateJobRequest(
        idempotency_key=key,
        program_sha256=buyer.admit(),
        price_mode=common_pb2.PRICE_MODE_SPOT,
        price_cap_micros_per_wu=10_000_000,
        budget_micros=budget_micros,
        level=common_pb2.VERIFICATION_LEVEL_STANDARD,
    )


def refusal_of(buyer: FakeBuyer, request: market_pb.CreateJobRequest) -> PoolError:
    with pytest.raises(grpc.RpcError) as refusal:
        buyer.call("CreateJob", request)
    return from_rpc_error(refusal.value)


def check_the_books(pool: PoolHandle) -> None:
    answer = pool.admin().CheckLedger(admin_pb.CheckLedgerRequest(), metadata=pool.operator.metadata)
    assert [check for check in answer.checks if not check.ok] == []
    assert answer.ok


def test_a_pool_on_postgresql_works_pays_caps_and_is_started_anew(tmp_path: Path, url: str) -> None:
    with running_pool(tmp_path, vet=vet_without_jax, database_url=url) as pool:
        assert not (pool.data_dir / "pool.sqlite3").exists()
        # 1. A car computes a buyer's tasks and is paid.
        worker = FakeBuyer.with_money(pool)
        job_id = worker.open_job([2.0, 3.0])
        assert len(FakeCar(pool).work()) == 2
        job = worker.call("GetJob", market_pb.GetJobRequest(job_id=job_id)).job
        assert (job.state, job.accepted_count) == (market_pb.JOB_STATE_DONE, 2)
        check_the_books(pool)
        # 2. Another buyer's caps hold: the token's first, then, changed by an operator, the account's.
        buyer = buyer_with_caps(pool)
        buyer.call("CreateJob", job_of(buyer, "a", 1_000))
        refused = refusal_of(buyer, job_of(buyer, "b", 501))
        assert refused.code is ErrorCode.SPEND_LIMIT_REACHED
        assert (refused.context["holder"], refused.context["left_micros"]) == ("token", "500")
        operate(pool, "caps", "set", "--token", buyer.principal.token_id, "--lift")
        buyer.call("CreateJob", job_of(buyer, "b", 501))
        assert refusal_of(buyer, job_of(buyer, "c", 500)).context["holder"] == "account"
        # 3. The buyer sees them, and the operator.
        [cap] = buyer.call("GetBalance", market_pb.GetBalanceRequest()).caps
        assert (cap.holder, cap.period, cap.max_spend_micros, cap.used_micros, cap.left_micros) == (
            *("account", "ever"),
            *(2_000, 1_501, 499),
        )
        shown = operate(pool, "caps", "show", buyer.principal.principal_id)
        assert "0.002" in shown
        assert "no cap" in shown
        # 4. Started anew, all is as it was.
        pool.restart()
        [again] = buyer.call("GetBalance", market_pb.GetBalanceRequest()).caps
        assert again == cap
        assert json.loads(operate(pool, "caps", "show", buyer.principal.principal_id, "--json"))["caps"]
        check_the_books(pool)


def test_caps_that_cannot_be_are_refused(tmp_path: Path, url: str) -> None:
    with running_pool(tmp_path, vet=vet_without_jax, database_url=url) as pool:
        stub, operator = pool.caps(), pool.operator.metadata
        buyer = pool.create_principal("buyer", "Bea")
        for request, code in (
            (caps_pb.SetCapRequest(period="ever", max_spend_micros=1), ErrorCode.INVALID_ARGUMENT),
            (
                caps_pb.SetCapRequest(buyer_id=buyer.principal_id, period="week", max_spend_micros=1),
                ErrorCode.INVALID_ARGUMENT,
            ),
            (
                caps_pb.SetCapRequest(buyer_id=buyer.principal_id, period="ever", max_spend_micros=-1),
                ErrorCode.INVALID_ARGUMENT,
            ),
            (caps_pb.SetCapRequest(buyer_id="x", period="ever"), ErrorCode.INVALID_ARGUMENT),
            (caps_pb.SetCapRequest(token_id="token_x", period="ever"), ErrorCode.NOT_FOUND),
        ):
            with pytest.raises(grpc.RpcError) as refusal:
                stub.SetCap(request, metadata=operator)
            assert from_rpc_error(refusal.value).code is code
        for made in (
            admin_pb.CreatePrincipalRequest(role="owner", name="O", max_spend_micros=1),
            admin_pb.CreatePrincipalRequest(
                role="buyer", principal_id=buyer.principal_id, max_spend_micros=1
            ),
        ):
            with pytest.raises(grpc.RpcError) as refusal:
                pool.admin().CreatePrincipal(made, metadata=operator)
            assert from_rpc_error(refusal.value).code is ErrorCode.INVALID_ARGUMENT
        assert "Usage" in operate(pool, "caps", "set", "--max-spend-micros", "1", expect=2)
        assert "Usage" in operate(pool, "caps", "set", "--buyer", "b", "--token", "t", "--lift", expect=2)
        assert "Usage" in operate(pool, "caps", "set", "--buyer", "b", expect=2)


def make(data: Path, database_url: str, **more: Any) -> None:
    initialize_pool(
        data,
        pool_name="test",
        currency="EUR",
        config=config_from({**TEST_CONFIG, "database_url": database_url}),
        clock=SystemClock(),
        id_source=SystemIds(),
        **more,
    )


def test_a_database_with_a_pool_is_not_overwritten(tmp_path: Path, url: str) -> None:
    make(tmp_path / "first", url)

    with pytest.raises(PoolError, match="holds the pool") as refusal:
        make(tmp_path / "second", url)

    assert refusal.value.code is ErrorCode.ALREADY_EXISTS
    assert not (tmp_path / "second").exists()


def test_one_server_serves_one_database(tmp_path: Path, url: str) -> None:
    with running_pool(tmp_path, vet=vet_without_jax, database_url=url) as pool:
        shutil.copytree(pool.data_dir, tmp_path / "copy")
        config = config_from({**TEST_CONFIG, "database_url": url})

        with pytest.raises(PoolError, match="another server runs on this database") as refusal:
            PoolServer(
                tmp_path / "copy",
                config=config,
                clock=SystemClock(),
                id_source=SystemIds(),
                vet=vet_without_jax,
            )

        assert refusal.value.code is ErrorCode.INVALID_STATE
        pool.restart()


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(PoolError) as refusal:
        make(tmp_path / "pool", f"postgresql://chargepool:hunter2@/pool?host={tmp_path}")

    assert refusal.value.code is ErrorCode.UNAVAILABLE
    assert "postgresql://chargepool:***@/pool" in refusal.value.detail
    assert "hunter2" not in refusal.value.detail + str(refusal.value.advice)
    assert "CHARGEPOOL_SERVER_DATABASE_URL" in refusal.value.next_step


def test_settings_keep_a_url_for_their_owner_alone_and_one_of_the_environment_not_at_all(
    tmp_path: Path, url: str
) -> None:
    make(tmp_path / "pool", url)
    written = tmp_path / "pool" / "pool.toml"

    assert 'database_url = "postgresql://' in written.read_text(encoding="utf-8")
    assert written.stat().st_mode & 0o077 == 0
    assert "postgresql://" not in repr(config_from({"database_url": "postgresql://a:hunter2@b/c"}))


def test_init_says_where_the_database_is_and_keeps_what_the_environment_said_out_of_the_settings(
    tmp_path: Path, url: str
) -> None:
    done = CliRunner().invoke(
        cli,
        ["init", "--data", str(tmp_path / "pool")],
        env={"CHARGEPOOL_SERVER_DATABASE_URL": url.replace("postgres:@", "postgres:hunter2@")},
    )

    assert done.exit_code == 0, done.output
    assert "postgresql://postgres:***@/" in done.output
    assert "hunter2" not in done.output
    assert "Keep CHARGEPOOL_SERVER_DATABASE_URL set" in done.output
    assert 'database_url = ""' in (tmp_path / "pool" / "pool.toml").read_text(encoding="utf-8")


def test_keys_without_a_database_say_that_it_may_be_elsewhere(tmp_path: Path, url: str) -> None:
    from pool_server.identity.directory import PoolDirectory

    make(tmp_path / "pool", url, write_database_url=False)

    with pytest.raises(PoolError, match="no database") as refusal:
        PoolDirectory(tmp_path / "pool").require_made()

    assert "database_url" in str(refusal.value.advice)
