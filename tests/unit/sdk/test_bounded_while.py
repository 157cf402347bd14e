"""`bounded_while`: like while_loop, with an end that the pool can see."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import chargepool
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.export import export_map
from pool_protocol.program.vetting import vet_program


def root(x: Any, *, max_rounds: int) -> tuple[Any, Any]:
    """Newton's square root, until it stands still."""
    return chargepool.bounded_while(
        lambda pair: jnp.abs(pair[0] * pair[0] - pair[1]) > 1e-5 * pair[1],
        lambda pair: (0.5 * (pair[0] + pair[1] / pair[0]), pair[1]),
        (x, x),
        max_rounds=max_rounds,
    )


def test_it_ends_by_itself_where_the_bound_allows_and_says_when_not() -> None:
    (found, _), finished = jax.jit(lambda x: root(x, max_rounds=50))(np.float32(2))
    assert float(found) == pytest.approx(2**0.5, rel=1e-5)
    assert bool(finished)
    (_, _), finished = jax.jit(lambda x: root(x, max_rounds=1))(np.float32(1e6))
    assert not bool(finished)


def test_a_pool_admits_it_and_meters_the_bound() -> None:
    def cost(max_rounds: int) -> int:
        program = export_map(
            lambda x: {"root": root(x, max_rounds=max_rounds)[0][0], "ok": root(x, max_rounds=max_rounds)[1]},
            np.float32(2),
        )
        return vet_program(program.artifact, program.draft).cost.flops

    assert cost(1_000) == pytest.approx(100 * cost(10), rel=0.05)


def test_a_batch_goes_inside_it() -> None:
    def member(x: Any) -> Any:
        return root(x, max_rounds=9)[0][0]

    with pytest.raises(PoolError) as refused:
        export_map(jax.vmap(member), np.ones(3, np.float32))
    assert refused.value.code is ErrorCode.PROGRAM_UNBOUNDED_LOOP

    def batch(x: Any) -> Any:
        (found, _), finished = chargepool.bounded_while(
            lambda pair: jnp.any(jnp.abs(pair[0] ** 2 - pair[1]) > 1e-5 * pair[1]),
            lambda pair: (0.5 * (pair[0] + pair[1] / pair[0]), pair[1]),
            (x, x),
            max_rounds=40,
        )
        return {"root": found, "finished": finished}

    assert export_map(batch, np.ones(3, np.float32)).draft.outputs


@pytest.mark.parametrize("rounds", [0, -1, 2**31, 1.5, True, None])
def test_a_bound_that_is_none_is_refused(rounds: Any) -> None:
    with pytest.raises(chargepool.InputRefused, match="max_rounds"):
        chargepool.bounded_while(lambda x: x > 1, lambda x: x, np.float32(2), max_rounds=rounds)
