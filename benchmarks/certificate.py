"""A certified job: 1024 x 1024 float32 products with Freivalds' check, through a real server and its referee.

    python -m benchmarks.certificate [--tasks 24] [--forgeries 1000] [--json]

1. A car without history computes them: every result is proved by its first attempt, without an audit.
2. A liar puts one wrong element into each of as many results: none is accepted, and each is done again.
3. Forged results go to the referee directly, one wrong element each, at random places, of random size from
   1 % of the product's root mean square upwards, each under its own nonce.
4. What it costs: overhead = attempts per task + (run time of the check / run time of the product), both in
   the referee, under the pinned profile, in turn, on arrays that are there. Beside it the same of metered
   work, and what a check takes with its bytes moved to the child, which the pool pays and no car waits for.

Medians need a quiet machine; the smallest of the runs is what is compared.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import chargepool
from chargepool import certificates
from chargepool._local import LocalProgram
from pool_protocol import tensors
from pool_protocol.digests import output_digest, sha256_hex
from pool_protocol.program.admission import vet_in_child
from pool_protocol.program.export import ExportedProgram, export_map
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb
from pool_server.ports.referee import RefereeOrder
from pool_server.referee.bench import RefereeBench
from tests.support.fake_car import FakeCar
from tests.support.pool import PoolHandle, running_pool

SIZE = 1024
OVERHEAD_MAX = 1.1
_CHUNK_BYTES = 1 << 20
_TIMED_RUNS = 60
#: The smallest planted error, as a share of the product's root mean square.
_ERROR_MIN, _ERROR_MAX = 0.01, 1e3

Arrays = Mapping[str, NDArray[Any]]


def product(pair: Any) -> Any:
    """The work."""
    return pair["a"] @ pair["b"]


def pair_of(seed: int) -> dict[str, NDArray[Any]]:
    """One task's inputs."""
    source = np.random.default_rng(seed)
    return {name: source.standard_normal((SIZE, SIZE)).astype(np.float32) for name in ("a", "b")}


def plant(right: NDArray[Any], source: np.random.Generator) -> NDArray[Any]:
    """Return a copy with one wrong element."""
    wrong = right.copy()
    scale = float(np.sqrt(np.mean(right**2)))
    error = scale * float(np.exp(source.uniform(np.log(_ERROR_MIN), np.log(_ERROR_MAX))))
    row, column = source.integers(0, SIZE, 2)
    wrong[row, column] += np.float32(error * source.choice([-1.0, 1.0]))
    return wrong


class BlobCar(FakeCar):
    """A car whose arrays are too large for messages."""

    def hand_in(self, compute: Callable[[Arrays], dict[str, NDArray[Any]]]) -> int:
        """Take one lease, compute it, hand it in; return how many results it had."""
        lease = self.lease(attempts_max=4)
        if lease is None:
            return 0
        results: list[fleet_pb.AttemptResult] = []
        for attempt in lease.attempts:
            request = fleet_pb.FleetServiceGetBlobRequest(blob_sha256=attempt.inputs.blob_sha256)
            inputs = tensors.decode(b"".join(piece.chunk for piece in self.stub.GetBlob(request)))
            outputs = compute(inputs)
            content = tensors.encode(outputs)
            self.stub.PutBlob(_pieces(content))
            results.append(
                fleet_pb.AttemptResult(
                    attempt_id=attempt.attempt_id,
                    outcome=fleet_pb.ATTEMPT_OUTCOME_COMPLETED,
                    output_digest=output_digest(outputs),
                    outputs=common_pb2.TensorBundle(blob_sha256=sha256_hex(content), size_bytes=len(content)),
                    run_time_us=1_000,
                )
            )
        self.submit(self.seal(fleet_pb.ResultBundleBody(lease_id=lease.lease_id, results=results)))
        return len(results)


def _pieces(content: bytes) -> Iterator[fleet_pb.FleetServicePutBlobRequest]:
    digest = sha256_hex(content)
    for start in range(0, len(content), _CHUNK_BYTES):
        yield fleet_pb.FleetServicePutBlobRequest(
            blob_sha256=digest if start == 0 else "", chunk=content[start : start + _CHUNK_BYTES]
        )


def through_the_server(pool: PoolHandle, *, tasks: int) -> dict[str, Any]:
    """Run one job by an honest car without history, and one by a liar first."""
    buyer = pool.create_principal("buyer", "Bea")
    pool.deposit(buyer, 10**15)
    seeds = [seed % 4 for seed in range(tasks)]  # few uploads: what is new in each task is its result
    source = np.random.default_rng(99)
    with chargepool.connect(pool.api_address, token=buyer.token, ca=pool.ca_file) as client:
        program = client.program(product, pair_of(0))
        local = LocalProgram(program.artifact, program.manifest)

        def honest(inputs: Arrays) -> dict[str, NDArray[Any]]:
            return local.run(inputs, {}, steps=0)

        def lie(inputs: Arrays) -> dict[str, NDArray[Any]]:
            return {"value": plant(honest(inputs)["value"], source)}

        def run(car: BlobCar, liar: BlobCar | None) -> tuple[chargepool.JobStatus, set[str], int]:
            job = client.submit_job(
                program, [pair_of(seed) for seed in seeds], certificate=certificates.freivalds()
            )
            believed = 0
            if liar is not None:
                while liar.hand_in(lie):
                    pass
                believed = job.status().accepted_count
            while car.hand_in(honest):
                pass
            return job.wait(), {result.evidence for result in job.results()}, believed

        proved, evidence, _ = run(BlobCar(pool, name="newcomer"), None)
        lied, evidence_after, believed = run(BlobCar(pool, name="honest"), BlobCar(pool, name="liar"))
    return {
        "tasks": tasks,
        "accepted": proved.accepted_count,
        "attempts_per_task": proved.attempt_count / tasks,
        "evidence": sorted(evidence | evidence_after),
        "lies": lied.rejected_count,
        "lies_accepted": believed,
        "accepted_after_lies": lied.accepted_count,
    }


def order_of(program: ExportedProgram) -> tuple[RefereeOrder, int]:
    """Admit a program as the pool does; return an order without inputs, and its metered work."""
    admitted = vet_in_child(program.artifact, program.draft)
    order = RefereeOrder(
        program_sha256=str(admitted.manifest.program_id),
        artifact=admitted.artifact,
        manifest_json=admitted.manifest.to_json(),
        constants=None,
        inputs=b"",
    )
    return order, admitted.manifest.cost.work_uwu


def in_the_referee(*, forgeries: int) -> dict[str, Any]:
    """Time the check beside the product, and send forged results."""
    check = certificates.freivalds().verify
    pair = pair_of(0)
    nonce = np.zeros(certificates.NONCE_WORDS, np.uint32)
    example = {"inputs": pair, "outputs": {"value": pair["a"]}, "nonce": nonce}
    work, work_uwu = order_of(export_map(product, pair))
    verify, verify_uwu = order_of(
        export_map(
            lambda given: {"ok": check(given["inputs"], given["outputs"]["value"], given["nonce"])}, example
        )
    )
    bench = RefereeBench()
    right = tensors.decode(bench.run_now(work._replace(inputs=tensors.encode(pair))).outputs)["value"]
    source = np.random.default_rng(2026)

    def checked(result: NDArray[Any]) -> tuple[bool, float, float]:
        words = source.integers(0, 2**32, nonce.size, dtype=np.uint32)
        given = {"inputs/a": pair["a"], "inputs/b": pair["b"], "outputs/value": result, "nonce": words}
        started_s = time.perf_counter()
        answer = bench.run_now(verify._replace(inputs=tensors.encode(given)))
        wall_ms = (time.perf_counter() - started_s) * 1e3
        return bool(tensors.decode(answer.outputs)["ok"]), answer.run_time_us / 1e3, wall_ms

    work_ms: list[float] = []
    check_ms: list[float] = []
    wall_ms: list[float] = []
    encoded = tensors.encode(pair)
    for _ in range(_TIMED_RUNS):
        work_ms.append(bench.run_now(work._replace(inputs=encoded)).run_time_us / 1e3)
        ok, run_ms, whole_ms = checked(right)
        if not ok:
            raise SystemExit("an honest product was refused")
        check_ms.append(run_ms)
        wall_ms.append(whole_ms)
    refused = sum(not checked(plant(right, source))[0] for _ in range(forgeries))
    bench.close()
    return {
        "product_ms": round(min(work_ms), 2),
        "check_ms": round(min(check_ms), 2),
        "run_time_ratio": round(min(check_ms) / min(work_ms), 4),
        "run_time_ratio_of_medians": round(statistics.median(check_ms) / statistics.median(work_ms), 4),
        "metered_ratio": round(verify_uwu / work_uwu, 4),
        "check_wall_ms": round(min(wall_ms), 2),
        "bytes_moved": 3 * pair["a"].nbytes,
        "forgeries": forgeries,
        "refused": refused,
    }


def _told(figures: Mapping[str, Any]) -> Iterator[str]:
    server, referee = figures["server"], figures["referee"]
    yield f"products of {SIZE} x {SIZE} float32, Freivalds' check of 8 rounds, level standard"
    yield (
        f"  a car without history: {server['accepted']} of {server['tasks']} accepted by "
        f"{', '.join(server['evidence'])}, {server['attempts_per_task']:.2f} attempts per task"
    )
    yield (
        f"  a liar, one wrong element each: {server['lies']} refused, {server['lies_accepted']} accepted; "
        f"{server['accepted_after_lies']} of {server['tasks']} done by another"
    )
    yield f"  forged results: {referee['refused']} of {referee['forgeries']} refused"
    yield (
        f"  product {referee['product_ms']} ms, check {referee['check_ms']} ms: overhead "
        f"{figures['overhead']} (at most {OVERHEAD_MAX}); of medians "
        f"{1 + referee['run_time_ratio_of_medians']:.3f}"
    )
    yield f"  metered work of the check / of the product: {referee['metered_ratio']} (bytes weigh there)"
    yield (
        f"  one check with {referee['bytes_moved'] >> 20} MiB moved to the child: "
        f"{referee['check_wall_ms']} ms"
    )


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.certificate", description=__doc__)
    parser.add_argument("--tasks", type=int, default=24, help="tasks of each job (default 24)")
    parser.add_argument("--forgeries", type=int, default=1_000, help="forged results (default 1000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    options = parser.parse_args()
    referee = in_the_referee(forgeries=options.forgeries)
    with tempfile.TemporaryDirectory() as folder, running_pool(Path(folder), quarantine_after=10**6) as pool:
        server = through_the_server(pool, tasks=options.tasks)
    overhead = round(server["attempts_per_task"] + referee["run_time_ratio"], 4)
    figures = {"overhead": overhead, "overhead_max": OVERHEAD_MAX, "server": server, "referee": referee}
    if options.json:
        print(json.dumps(figures))
        return
    print("\n".join(_told(figures)))
    print("BENCH " + json.dumps(figures))


if __name__ == "__main__":
    main()
