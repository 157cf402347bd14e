"""Vetting: each hostile program has its refusal, and what honest programs cost can be worked out by hand."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import PROGRAM_LIMITS, ProgramLimits
from pool_protocol.program.cost import MACHINE_BALANCE, Cost
from pool_protocol.program.export import ExportedProgram, export_map, export_step
from pool_protocol.program.manifest import CustomCalls, ProgramDraft, ProgramKind
from pool_protocol.program.vetting import vet_program
from tests.support import hostile_programs as hostile

_HOSTILE: list[tuple[str, str, ErrorCode]] = [
    ("host callback", hostile.CALLBACK, ErrorCode.PROGRAM_CALLBACK),
    ("unlisted custom call", hostile.UNKNOWN_CUSTOM_CALL, ErrorCode.PROGRAM_CUSTOM_CALL),
    ("recursion", hostile.RECURSION, ErrorCode.PROGRAM_RECURSION),
    ("recursion through another", hostile.RECURSION_INDIRECT, ErrorCode.PROGRAM_RECURSION),
    ("call bomb 2^16", hostile.call_bomb(16), ErrorCode.PROGRAM_TOO_LARGE),
    ("call bomb 2^63", hostile.call_bomb(63), ErrorCode.PROGRAM_TOO_LARGE),
    ("call chain", hostile.call_bomb(200), ErrorCode.PROGRAM_TOO_LARGE),
    ("deep nesting", hostile.nested_conditionals(30), ErrorCode.PROGRAM_TOO_LARGE),
    ("infeed", hostile.INFEED, ErrorCode.PROGRAM_OP_NOT_ALLOWED),
    ("machine's own randomness", hostile.MACHINE_RANDOM, ErrorCode.PROGRAM_OP_NOT_ALLOWED),
    ("random bits by default", hostile.DEFAULT_RANDOM_BITS, ErrorCode.PROGRAM_OP_NOT_ALLOWED),
    ("all reduce", hostile.ALL_REDUCE, ErrorCode.PROGRAM_OP_NOT_ALLOWED),
    ("frontend attribute", hostile.FRONTEND_ATTRIBUTE, ErrorCode.PROGRAM_OP_NOT_ALLOWED),
    ("unknown composite", hostile.UNKNOWN_COMPOSITE, ErrorCode.PROGRAM_OP_NOT_ALLOWED),
    ("dynamic shape", hostile.DYNAMIC_SHAPE, ErrorCode.PROGRAM_OP_NOT_ALLOWED),
    ("372 GiB tensor", hostile.HUGE_TENSOR, ErrorCode.PROGRAM_TOO_LARGE),
    ("other signature", hostile.OTHER_SIGNATURE, ErrorCode.PROGRAM_SIGNATURE_MISMATCH),
    ("no main", hostile.NO_MAIN, ErrorCode.PROGRAM_SIGNATURE_MISMATCH),
]


def refusal(artifact: bytes, draft: ProgramDraft, limits: ProgramLimits = PROGRAM_LIMITS) -> ErrorCode:
    with pytest.raises(PoolError) as raised:
        vet_program(artifact, draft, limits)
    return raised.value.code


@pytest.mark.parametrize(("what", "functions", "code"), _HOSTILE, ids=[row[0] for row in _HOSTILE])
def test_attack_hostile_program(what: str, functions: str, code: ErrorCode) -> None:
    assert refusal(*hostile.forge(functions)) is code, what


def test_attack_a_frame_that_lies() -> None:
    honest = hostile.main_of("%0 = stablehlo.sine %a : tensor<4xf32>")
    artifact, draft = hostile.forge(honest)
    assert vet_program(artifact, draft).operations == {"func.return": 1, "stablehlo.sine": 1}
    assert refusal(artifact + b"\0", draft) is ErrorCode.PROGRAM_DIGEST_MISMATCH
    assert refusal(b"junk", hostile.draft_for(b"junk", [], [hostile.VECTOR])) is ErrorCode.PROGRAM_UNPARSABLE
    longer = hostile.draft_for(artifact, [("float32", (5,))], [hostile.VECTOR])
    assert refusal(artifact, longer) is ErrorCode.PROGRAM_SIGNATURE_MISMATCH
    more = hostile.draft_for(artifact, [hostile.VECTOR, hostile.VECTOR], [hostile.VECTOR])
    assert refusal(artifact, more) is ErrorCode.PROGRAM_SIGNATURE_MISMATCH
    both = dataclasses.replace(draft, platforms=("cpu", "cuda"))
    assert refusal(artifact, both) is ErrorCode.PROGRAM_PLATFORM_UNSUPPORTED
    small = dataclasses.replace(PROGRAM_LIMITS, artifact_bytes_max=10)
    assert refusal(artifact, draft, small) is ErrorCode.PROGRAM_TOO_LARGE
    for code, frame in (
        (ErrorCode.PROGRAM_OP_NOT_ALLOWED, {"nr_devices": 2}),
        (ErrorCode.PROGRAM_VERSION_UNSUPPORTED, {"calling_convention_version": 99}),
        (
            ErrorCode.PROGRAM_CUSTOM_CALL,
            {"disabled_safety_checks": (jax_export.DisabledSafetyCheck.custom_call("puts"),)},
        ),
        (ErrorCode.PROGRAM_SIGNATURE_MISMATCH, {"module_kept_var_idx": ()}),
    ):
        assert refusal(*hostile.forge(honest, **frame)) is code, frame


def test_attack_lapack_with_forged_shapes() -> None:
    assert refusal(*hostile.bad_cholesky()) is ErrorCode.PROGRAM_CUSTOM_CALL


def test_attack_stablehlo_that_does_not_parse() -> None:
    artifact, draft = hostile.forge(hostile.NO_MAIN)
    exported = jax_export.deserialize(bytearray(artifact))
    for module_bytes in (
        b"nonsense",
        b"ML\xefR",
        exported.mlir_module_serialized[: len(exported.mlir_module_serialized) // 2],
    ):
        broken = bytes(dataclasses.replace(exported, mlir_module_serialized=module_bytes).serialize())
        named = dataclasses.replace(draft, artifact_sha256=sha256_hex(broken))
        assert refusal(broken, named) is ErrorCode.PROGRAM_UNPARSABLE


def test_attack_constants_beyond_the_limit() -> None:
    table = np.arange(2000, dtype=np.float32)
    program = export_map(lambda x: x + table, table)
    small = dataclasses.replace(PROGRAM_LIMITS, constant_bytes_max=7_999)
    assert refusal(program.artifact, program.draft, small) is ErrorCode.PROGRAM_TOO_LARGE
    splat = export_map(lambda x: x + np.ones(2000, np.float32), table)
    assert vet_program(splat.artifact, splat.draft, small).cost.flops == 2000


def test_attack_a_loop_limit_with_exponentially_many_paths_is_not_followed() -> None:
    assert refusal(*hostile.forge(hostile.doubling_limit(200))) is ErrorCode.PROGRAM_UNBOUNDED_LOOP
    assert vet_program(*hostile.forge(hostile.doubling_limit(5))).cost.flops == 5


def test_attack_calls_with_exponentially_many_ways_are_not_searched() -> None:
    """Two rounds of one addition of four elements and two operations of the counter."""
    assert vet_program(*hostile.forge(hostile.tripled_arguments(50))).cost.flops == 2 * (4 + 2)


def test_attack_more_work_than_one_task_may_be() -> None:
    forged = hostile.forge(hostile.counted_loop(start=0, limit=2**31 - 1, step=1))
    little = dataclasses.replace(PROGRAM_LIMITS, work_uwu_max=1000)
    assert refusal(*forged, little) is ErrorCode.PROGRAM_TOO_LARGE


@pytest.mark.parametrize(
    ("start", "limit", "step", "direction", "rounds"),
    [
        (0, 10, 1, "LT", 10),
        (0, 10, 3, "LT", 4),
        (5, 5, 1, "LT", 0),
        (7, 5, 1, "LT", 0),
        (0, 10, 1, "LE", 11),
        (10, 0, -1, "GT", 10),
        (10, 1, -3, "GT", 3),
        (10, 0, -2, "GE", 6),
        (3, 9, 2, "NE", 3),
    ],
)
def test_rounds_of_counted_loops_are_exact(
    start: int, limit: int, step: int, direction: str, rounds: int
) -> None:
    """A sine is 16 per element, the counter's comparison and addition 1 each, the carry 16 + 4 bytes."""
    text = hostile.counted_loop(start=start, limit=limit, step=step, direction=direction)
    vetted = vet_program(*hostile.forge(text))
    assert vetted.cost == Cost(flops=rounds * (4 * 16 + 2), bytes_moved=rounds * 2 * (16 + 4) + 32)
    python_rounds, i = 0, start
    while {"LT": i < limit, "LE": i <= limit, "GT": i > limit, "GE": i >= limit, "NE": i != limit}[direction]:
        python_rounds, i = python_rounds + 1, i + step
    assert python_rounds == rounds


@pytest.mark.parametrize(
    ("start", "limit", "step", "direction", "element"),
    [
        (0, 10, 0, "LT", "i32"),
        (0, 10, -1, "LT", "i32"),
        (10, 0, 1, "GT", "i32"),
        (3, 10, 2, "NE", "i32"),
        (0, 127, 1, "LE", "i8"),  # 128 does not exist: the counter wraps and the loop never ends
        (0, 250, 100, "LT", "ui8"),
        (0, 10, 1, "EQ", "i32"),
    ],
)
def test_attack_loops_that_do_not_end(
    start: int, limit: int, step: int, direction: str, element: str
) -> None:
    text = hostile.counted_loop(start=start, limit=limit, step=step, direction=direction, element=element)
    assert refusal(*hostile.forge(text)) is ErrorCode.PROGRAM_UNBOUNDED_LOOP


X = np.ones((8, 16), np.float32)


def cost_of(program: ExportedProgram) -> Cost:
    vetted = vet_program(program.artifact, program.draft)
    assert vetted.artifact == program.artifact, "an exported artifact is canonical already"
    return vetted.cost


def test_costs_by_hand() -> None:
    weights = np.ones((16, 4), np.float32)
    product = cost_of(export_map(lambda c, x: x @ c, X, weights))
    traffic = 4 * (8 * 16 + 16 * 4 + 8 * 4)
    assert product == Cost(flops=2 * 8 * 16 * 4, bytes_moved=2 * traffic)
    image, kernel = np.ones((2, 3, 10, 10), np.float32), np.ones((5, 3, 3, 3), np.float32)
    convolved = cost_of(export_map(lambda c, x: jax.lax.conv(x, c, (1, 1), "VALID"), image, kernel))
    assert convolved.flops == 2 * (2 * 5 * 8 * 8) * (3 * 3 * 3)
    assert cost_of(export_map(jnp.sin, X)) == Cost(flops=16 * 128, bytes_moved=2 * 512)
    assert cost_of(export_map(lambda x: x.sum(), X)).flops == 128
    assert cost_of(export_map(jnp.transpose, X)).flops == 0


def test_a_loop_costs_its_rounds_and_a_conditional_its_dearest_branch() -> None:
    ten, twenty = (
        cost_of(export_map(lambda x, n=n: jax.lax.fori_loop(0, n, lambda _, y: jnp.sin(y), x), X))
        for n in (10, 20)
    )
    one_round = Cost(twenty.flops - ten.flops, twenty.bytes_moved - ten.bytes_moved)
    # JAX counts such a loop twice: once for the loop, once for the body's index.
    assert one_round == Cost(10 * (16 * 128 + 3), 10 * 2 * (512 + 4 + 4))
    dear = cost_of(export_map(lambda x: jax.lax.cond(x[0, 0] > 0, lambda y: y @ y.T @ y, lambda y: y, x), X))
    assert dear.flops >= 2 * (2 * 8 * 16 * 8)


def test_scan_collecting_its_outputs_is_linear() -> None:
    def collect(rows: Any) -> Any:
        return jax.lax.scan(lambda carry, row: (carry, row * 2), jnp.float32(0), rows)[1]

    short, long = (cost_of(export_map(collect, np.ones((n, 64), np.float32))) for n in (100, 200))
    assert long.bytes_moved == pytest.approx(2 * short.bytes_moved, rel=0.01)


def test_nested_loops_in_functions_multiply() -> None:
    inner = jax.jit(lambda y: jax.lax.fori_loop(0, 7, lambda _, z: jnp.sin(z), y))
    nested = cost_of(export_map(lambda x: jax.lax.fori_loop(0, 5, lambda _, y: inner(y), x), X))
    assert nested.flops == 5 * (7 * (16 * 128 + 3) + 3)


def test_work_is_the_roofline_and_never_free() -> None:
    assert Cost(0, 0).work_uwu == 1
    assert Cost(1_000_001, 0).work_uwu == 2
    assert Cost(10, 4_000_000).work_uwu == 4 * MACHINE_BALANCE


def test_a_step_program_is_metered_per_step_whatever_its_unit() -> None:
    def step(state: Any, inputs: Any, constants: Any) -> Any:
        return state + jnp.sin(inputs) * constants

    programs = [export_step(step, X, X, np.float32(0.5), unit_steps=units) for units in (1, 1000)]
    cost, per_thousand = map(cost_of, programs)
    assert cost == per_thousand == Cost(flops=128 * (16 + 2) + 2, bytes_moved=2 * (512 + 4))
    assert programs[0].draft.kind is ProgramKind.STEP


def test_attack_a_step_program_without_its_loop_or_with_two() -> None:
    once = export_step(lambda s, i, c: s + 1, np.float32(0), unit_steps=1)
    as_map = export_map(lambda i: i[1] + i[0].astype(jnp.float32), (np.int32(0), np.float32(0)))
    forged = dataclasses.replace(once.draft, artifact_sha256=as_map.draft.artifact_sha256)
    assert refusal(as_map.artifact, forged) is ErrorCode.PROGRAM_SIGNATURE_MISMATCH


def test_a_while_loop_of_unknown_length_is_refused_in_map_and_step() -> None:
    def until_small(x: Any) -> Any:
        return jax.lax.while_loop(lambda y: y.sum() > 1, lambda y: y * 0.5, x)

    with pytest.raises(PoolError) as raised:
        export_map(until_small, X)
    assert raised.value.code is ErrorCode.PROGRAM_UNBOUNDED_LOOP
    with pytest.raises(PoolError) as raised:
        export_step(lambda s, i, c: until_small(s), X, unit_steps=1)
    assert raised.value.code is ErrorCode.PROGRAM_UNBOUNDED_LOOP


def halved_until_small(rounds: int, *, more: Callable[[Any], Any] = lambda _: True) -> Callable[[Any], Any]:
    """A loop that ends early, and after `rounds` rounds at the latest."""

    def fn(x: Any) -> Any:
        return jax.lax.while_loop(
            lambda carry: (carry[1].sum() > 1) & (carry[0] < rounds) & more(carry),
            lambda carry: (carry[0] + 1, carry[1] * 0.5),
            (jnp.int32(0), x),
        )[1]

    return fn


def test_a_loop_that_may_end_early_is_metered_at_its_bound() -> None:
    once, often = (cost_of(export_map(halved_until_small(rounds), X)) for rounds in (1, 10))
    traffic = 2 * X.nbytes
    assert (often.bytes_moved - traffic) == 10 * (once.bytes_moved - traffic)
    assert often.flops == 10 * once.flops > 0
    # The same loop without a way to end early costs what its comparison saves.
    counted = cost_of(export_map(lambda x: jax.lax.fori_loop(0, 10, lambda _, y: y * 0.5, x), X))
    assert counted.flops < often.flops
    # Of two counters the one that ends first counts.
    both = cost_of(export_map(halved_until_small(50, more=lambda carry: carry[0] != 10), X))
    assert 10 <= both.flops * 10 / often.flops <= 11


def test_attack_a_counter_that_does_not_bound_its_loop() -> None:
    def refused(condition: Callable[[Any], Any], step: Callable[[Any], Any]) -> ErrorCode:
        with pytest.raises(PoolError) as raised:
            export_map(
                lambda x: jax.lax.while_loop(
                    condition, lambda carry: (step(carry), carry[1] * 0.5), (jnp.int32(0), x)
                )[1],
                X,
            )
        return raised.value.code

    unbounded = ErrorCode.PROGRAM_UNBOUNDED_LOOP
    # "or" goes on while either holds; "not" turns a bound into its contrary.
    assert refused(lambda c: (c[0] < 9) | (c[1].sum() > 1), lambda c: c[0] + 1) is unbounded
    assert refused(lambda c: ~(c[0] < 9) & (c[1].sum() > 1), lambda c: c[0] + 1) is unbounded
    # A counter that stands still, goes the wrong way, is set back, or adds what nobody knows.
    assert refused(lambda c: (c[0] < 9) & (c[1].sum() > 1), lambda c: c[0]) is unbounded
    assert refused(lambda c: (c[0] < 9) & (c[1].sum() > 1), lambda c: c[0] - 1) is unbounded
    assert refused(lambda c: (c[0] < 9) & (c[1].sum() > 1), lambda c: (c[0] + 1) % 5) is unbounded
    assert (
        refused(lambda c: (c[0] < 9) & (c[1].sum() > 1), lambda c: c[0] + c[1].sum().astype(jnp.int32))
        is unbounded
    )
    # A limit that the loop itself moves.
    assert refused(lambda c: c[0] < c[1].sum().astype(jnp.int32), lambda c: c[0] + 1) is unbounded


_LINEAR_ALGEBRA: list[Any] = [
    jnp.linalg.cholesky,
    jnp.linalg.inv,
    jnp.linalg.pinv,
    lambda a: tuple(jnp.linalg.svd(a)),
    lambda a: jnp.linalg.svd(a, compute_uv=False),
    lambda a: tuple(jnp.linalg.eigh(a)),
    lambda a: tuple(jnp.linalg.eig(a)),
    lambda a: tuple(jnp.linalg.qr(a)),
    lambda a: jnp.linalg.solve(a, a),
    lambda a: tuple(jnp.linalg.eigh(jnp.stack([a, a]).astype(jnp.complex64))),
]


@pytest.mark.parametrize("function", _LINEAR_ALGEBRA)
def test_linear_algebra_passes_where_it_is_asked_for(function: Any) -> None:
    matrix = np.eye(6, dtype=np.float32)
    assert cost_of(export_map(function, matrix, custom_calls=CustomCalls.LAPACK)).flops > 6**2
    with pytest.raises(PoolError) as raised:
        export_map(function, matrix)
    assert raised.value.code is ErrorCode.PROGRAM_CUSTOM_CALL


_EVERYDAY: list[Any] = [
    jax.nn.softmax,
    jax.nn.gelu,
    jnp.sort,
    jnp.argsort,
    lambda x: tuple(jax.lax.top_k(x, 3)),
    lambda x: jnp.fft.fft2(x).real,
    lambda x: jnp.cumsum(x, axis=0),
    lambda x: x.at[jnp.array([0, 2])].add(1.0),
    lambda x: jax.random.normal(jax.random.PRNGKey(0), x.shape) + x,
    lambda x: jax.random.permutation(jax.random.PRNGKey(1), x),
    jax.scipy.special.gammaln,
    lambda x: jax.lax.associative_scan(jnp.add, x),
    jax.grad(lambda y: (jnp.tanh(y @ y.T) ** 2).mean()),
    jax.vmap(lambda row: jax.lax.fori_loop(0, 3, lambda _, y: y * 2, row)),
    lambda x: jnp.median(x, axis=0),
    lambda x: (x.astype(jnp.bfloat16) @ x.T.astype(jnp.bfloat16)).astype(jnp.float32),
]


@pytest.mark.parametrize("index", range(len(_EVERYDAY)))
def test_everyday_programs_pass(index: int) -> None:
    assert cost_of(export_map(_EVERYDAY[index], X)).work_uwu >= 1


def test_a_program_for_two_platforms_passes() -> None:
    program = export_map(jnp.sin, X, platforms=("cuda", "cpu"))
    assert program.draft.platforms == ("cpu", "cuda")
    assert cost_of(program).flops == 16 * 128
