"""Certificates through the real server: admitted, run by its referee, believed; and whom a bad one hurts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpy.typing import NDArray

import chargepool
from chargepool import certificates
from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_server.rpc import certificate_desk
from tests.support.fake_car import FakeCar
from tests.support.pool import PoolHandle, PrincipalHandle, running_pool

SIZE = 16


def product(pair: Any) -> Any:
    return pair["a"] @ pair["b"]


def pairs(count: int) -> list[dict[str, NDArray[Any]]]:
    source = np.random.default_rng(count)
    return [
        {name: source.standard_normal((SIZE, SIZE)).astype(np.float32) for name in ("a", "b")}
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolHandle]:
    with running_pool(tmp_path_factory.mktemp("certified")) as running:
        yield running


@pytest.fixture
def buyer(pool: PoolHandle, request: pytest.FixtureRequest) -> PrincipalHandle:
    principal = pool.create_principal("buyer", request.node.name[:60])
    pool.deposit(principal, 10**12)
    return principal


@pytest.fixture
def client(
    pool: PoolHandle, buyer: PrincipalHandle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[chargepool.Client]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with chargepool.connect(pool.api_address, token=buyer.token, ca=pool.ca_file) as connection:
        yield connection


@pytest.fixture
def cars(pool: PoolHandle, request: pytest.FixtureRequest) -> Iterator[list[FakeCar]]:
    made = [FakeCar(pool, name=f"{request.node.name[:40]} {number}") for number in range(2)]
    yield made
    for car in made:  # the pool is shared: no car of this test may wait for work of the next
        pool.account().RetireVehicle(
            account_pb.RetireVehicleRequest(vehicle_id=car.vehicle.vehicle_id), metadata=car.owner.metadata
        )


def honest(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {"value": np.asarray(inputs["a"] @ inputs["b"], np.float32)}


def one_wrong(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    outputs = honest(inputs)
    outputs["value"][3, 4] += 0.1
    return outputs


def vehicle(car: FakeCar) -> Any:
    answer = car.pool.account().ListVehicles(account_pb.ListVehiclesRequest(), metadata=car.owner.metadata)
    [found] = answer.vehicles
    return found


def exact(pair: Any, outputs: Any, nonce: Any) -> Any:
    """A buyer's own check."""
    return jnp.abs(pair["a"] @ pair["b"] - outputs).max() < 1e-3


@pytest.mark.parametrize("level", ["standard", "strict", "full"])
@pytest.mark.parametrize("certificate", [certificates.freivalds(), exact], ids=["freivalds", "own"])
def test_a_proved_result_is_accepted_at_once_from_a_car_without_history(
    client: chargepool.Client, cars: list[FakeCar], level: Any, certificate: Any
) -> None:
    job = client.submit_job(product, pairs(3), certificate=certificate, level=level)
    car = cars[0]
    assert [ack.status for ack in car.work(honest)] == [2, 2, 2], "VERIFIED in the acknowledgement"
    status = job.wait()
    results = sorted(job.results(), key=lambda result: result.index)
    assert (status.accepted_count, status.attempt_count) == (3, 3), "one attempt per task"
    assert {result.evidence for result in results} == {"CERTIFICATE"}
    assert all(result.is_final for result in results)
    assert all(
        np.allclose(r.value, p["a"] @ p["b"], atol=1e-4) for r, p in zip(results, pairs(3), strict=True)
    )
    view = vehicle(car)
    assert (view.verified_attempts, view.rejected_attempts) == (3, 0)
    assert view.clean_uwu == 0, "a check that its buyer brought makes no history"


def test_a_wrong_element_is_refused_its_car_caught_and_the_task_done_by_another(
    client: chargepool.Client, cars: list[FakeCar]
) -> None:
    liar, other = cars
    job = client.submit_job(product, pairs(1), certificate=certificates.freivalds())
    liar.work(one_wrong)
    assert (vehicle(liar).verified_attempts, vehicle(liar).rejected_attempts) == (0, 1)
    assert vehicle(liar).clean_uwu == 0
    assert not liar.work(honest), "its task is not offered to it again"
    other.work(honest)
    status = job.wait()
    assert (status.accepted_count, status.attempt_count, status.rejected_count) == (1, 2, 1)
    [result] = job.results()
    assert np.allclose(result.value, honest(pairs(1)[0])["value"])
    assert vehicle(liar).net_micros == 0


def test_constants_reach_the_certificate(client: chargepool.Client, cars: list[FakeCar]) -> None:
    weights = np.random.default_rng(1).standard_normal((SIZE, 5)).astype(np.float32)
    job = client.submit_job(
        lambda w, x: x @ w["w"],
        [pairs(1)[0]["a"]],
        constants={"w": weights},
        certificate=certificates.freivalds(arrays=lambda w, x, y: (x, w["w"], y)),
    )
    cars[0].work(lambda inputs: {"value": inputs["value"] @ weights})
    assert job.wait().accepted_count == 1
    assert next(iter(job.results())).evidence == "CERTIFICATE"


def test_attack_a_certificate_that_always_says_no_burns_no_honest_car(
    client: chargepool.Client, cars: list[FakeCar]
) -> None:
    job = client.submit_job(
        product, pairs(5), certificate=lambda pair, out, nonce: jnp.sum(out) != jnp.sum(out)
    )
    cars[0].work(honest)
    assert vehicle(cars[0]).rejected_attempts == 0
    status = job.status()
    assert "certificate fails" in status.waiting
    while cars[1].work(honest):
        pass
    status = job.status()
    assert status.accepted_count == 5
    assert status.rejected_count == 0
    assert {result.evidence for result in job.results()} <= {"AUDITED", "HISTORY"}


def slow(pair: Any, outputs: Any, nonce: Any) -> Any:
    busy = lax.fori_loop(0, 2**30, lambda _, x: jnp.sin(x) + x, outputs)
    return jnp.all(jnp.isfinite(busy))


def test_attack_a_certificate_that_never_ends_costs_its_own_job_alone(
    client: chargepool.Client, cars: list[FakeCar], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate_desk, "CERTIFICATE_TIMEOUT_S", 0.2)
    job = client.submit_job(product, pairs(4), certificate=slow)
    for _ in range(4):
        cars[0].work(honest, attempts_max=1)
    assert "certificate fails" in job.status().waiting
    monkeypatch.undo()
    sound = client.submit_job(product, pairs(1), certificate=certificates.freivalds())
    while cars[1].work(honest):
        pass
    assert (job.status().accepted_count, sound.status().accepted_count) == (4, 1)
    assert vehicle(cars[0]).rejected_attempts == vehicle(cars[1]).rejected_attempts == 0


def test_a_task_that_the_pool_cannot_compute_itself_is_left_to_an_audit(
    client: chargepool.Client, cars: list[FakeCar], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate_desk, "TASK_TIMEOUT_S", 0.0)
    liar, other = cars
    job = client.submit_job(product, pairs(1), certificate=certificates.freivalds())
    liar.work(one_wrong)
    assert vehicle(liar).rejected_attempts == 0, "a buyer's word alone burns nobody"
    assert job.status().accepted_count == 0, "nor is it believed"
    other.work(honest)
    assert job.wait().accepted_count == 1
    [result] = job.results()
    assert result.evidence == "CERTIFICATE"
    assert np.allclose(result.value, honest(pairs(1)[0])["value"])


def test_what_is_no_certificate_is_refused_before_anything_is_spent(client: chargepool.Client) -> None:
    with pytest.raises(chargepool.InputRefused, match="no certificate"):
        client.submit_job(product, pairs(1), certificate="freivalds")  # type: ignore[arg-type] # which is the point
    step = client.step_program(lambda x, *_: x + 1, np.float32(0), unit_steps=1)
    with pytest.raises(chargepool.InputRefused, match="map programs"):
        client.submit_job(step, [(np.float32(1), None)], steps=2, certificate=exact)
    with pytest.raises(chargepool.ProgramRefused):
        client.submit_job(product, pairs(1), certificate=lambda pair, out, nonce: bool(out.sum() > 0))
    assert client.balance().escrow_micros == 0


def test_a_quote_for_certified_work_needs_no_second_owner(client: chargepool.Client) -> None:
    program = client.program(product, pairs(1)[0])
    plain, proved = client.quote(program, 5), client.quote(program, 5, certified=True)
    assert plain.audit_overhead_newcomer > 0
    assert (proved.audit_overhead_now, proved.audit_overhead_newcomer, proved.warning) == (0.0, 0.0, "")
    assert "certificate" in proved.promise
    assert proved.total_micros == plain.total_micros
