"""The whole road over real sockets: a program admitted, a job computed by a car that signs, owners paid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pool_protocol import tensors
from pool_protocol.receipts import verify_receipt
from pool_protocol.roots import Role, open_first_root
from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from tests.support.fake_car import FakeBuyer, FakeCar, lie, vet_without_jax
from tests.support.pool import running_pool


def test_a_job_is_computed_verified_and_paid(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax, dispute_window_s=0) as pool:
        # 1. A buyer is quoted and opens a job.
        buyer = FakeBuyer.with_money(pool, amount_micros=10**9)
        program = buyer.admit()
        quote = buyer.call(
            "GetQuote",
            market_pb.GetQuoteRequest(
                program_sha256=program, task_count=4, level=common_pb2.VERIFICATION_LEVEL_NONE
            ),
        )
        assert (quote.cost_micros_per_task, quote.total_micros, quote.attempts_per_task) == (
            10**6,
            4 * 10**6,
            1,
        )
        job_id = buyer.open_job([1, 2, 3, 4])

        # 2. A car fetches the program, leases, computes, signs.
        car = FakeCar(pool)
        fetched = car.stub.GetProgram(fleet_pb.GetProgramRequest(program_sha256=program))
        assert fetched.admission.payload_type == "chargepool/program-admission/v1"
        acks = car.work()
        assert [ack.status for ack in acks] == [fleet_pb.ACK_STATUS_VERIFIED] * 4

        # 3. The buyer watches the end and reads verified results with receipts.
        news = list(
            pool.market().WatchJob(
                market_pb.WatchJobRequest(job_id=job_id, include_results=True),
                metadata=buyer.principal.metadata,
            )
        )
        decided = [task for message in news for task in message.decided]
        assert news[-1].job.state == market_pb.JOB_STATE_DONE
        assert sorted(task.index for task in decided) == [0, 1, 2, 3]
        root = open_first_root(
            buyer.call("GetPoolRoot", market_pb.GetPoolRootRequest()).roots[0].SerializeToString(),
            now_us=pool.clock.now_us(),
        )
        for task in decided:
            [value] = tensors.decode(task.outputs.inline).values()
            np.testing.assert_array_equal(value, np.full(3, (task.index + 1) ** 2, np.float32))
            [receipt] = task.receipts
            verified = verify_receipt(
                receipt, keys=root.keys_for(Role.RECEIPT), now_us=pool.clock.now_us(), pool_id=pool.pool_id
            )
            assert verified.receipt.owner_id == car.owner.principal_id
            assert verified.receipt.gross_micros == task.cost_micros == 10**6

        # 4. The owner sees the money; the rest of the reserve is back with the buyer; the books balance.
        earnings = pool.account().GetEarnings(
            account_pb.GetEarningsRequest(days=1), metadata=car.owner.metadata
        )
        assert earnings.gross_micros == 4 * 10**6
        assert earnings.held_micros + earnings.available_micros == 4 * 900_000
        balance = buyer.call("GetBalance", market_pb.GetBalanceRequest())
        assert (balance.available_micros, balance.escrow_micros) == (10**9 - 4 * 10**6, 0)
        books = pool.admin().CheckLedger(admin_pb.CheckLedgerRequest(), metadata=pool.operator.metadata)
        assert (books.ok, books.sum_micros) == (True, 0), books


def test_a_liar_is_caught_by_a_quorum_and_quarantined(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax) as pool:
        buyer = FakeBuyer.with_money(pool)
        job_id = buyer.open_job([2], level=common_pb2.VERIFICATION_LEVEL_FULL)
        liar, honest, third = (FakeCar(pool, name=name) for name in ("liar", "honest", "third"))

        assert liar.work(lie)[0].status == fleet_pb.ACK_STATUS_RECORDED
        assert honest.work()[0].status == fleet_pb.ACK_STATUS_RECORDED
        assert third.work()[0].status == fleet_pb.ACK_STATUS_VERIFIED

        [result] = buyer.results(job_id, 1)
        [value] = tensors.decode(result.outputs.inline).values()
        np.testing.assert_array_equal(value, np.full(3, 4, np.float32))
        assert liar.earnings().quarantine_reason == "WRONG_RESULT"
        assert liar.earnings().held_micros == 0
        assert honest.earnings().held_micros == third.earnings().held_micros == 900_000
        refused = liar.stub.LeaseWork(fleet_pb.LeaseWorkRequest(want=fleet_pb.WorkRequest(attempts_max=1)))
        assert refused.no_work.reason == "QUARANTINED"


@pytest.mark.slow
def test_a_real_jax_program_passes_admission_and_repeats_give_the_same_answer(tmp_path: Path) -> None:
    from pool_protocol.program.export import export_map

    exported = export_map(lambda x: x * x, np.zeros(3, np.float32))
    request = market_pb.AdmitProgramRequest(
        artifact=exported.artifact, manifest_draft=exported.draft.to_json()
    )
    with running_pool(tmp_path) as pool:
        buyer = FakeBuyer.with_money(pool)
        first = buyer.call("AdmitProgram", request)
        again = buyer.call("AdmitProgram", request)
        assert again == first
        assert len(first.program_sha256) == 64
