"""A loop that ends when its work is done, and never after more rounds than were said."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chargepool._errors import InputRefused

if TYPE_CHECKING:
    from jax import Array

#: Rounds that a counter of 32 bits can count.
ROUNDS_MAX = 2**31 - 1


def bounded_while(
    condition: Callable[[Any], Any], body: Callable[[Any], Any], state: Any, *, max_rounds: int
) -> "tuple[Any, Array]":
    """Repeat `state = body(state)` while `condition(state)` holds, at most `max_rounds` times.

    As `jax.lax.while_loop`, whose loops a pool refuses because nobody knows how long they run. Work is
    metered, and paid, for all `max_rounds` rounds, however early a task is done: a pay that depended on what
    a task turns out to need could be learned only from the car that did it, or be cheapened by an easy first
    task. So choose the bound with care: count rounds on a sample, and add what the hardest input may need.

    Args:
        condition: `condition(state)`, a boolean scalar.
        body: `body(state)`, of the structure, shapes and types of `state`.
        state: The first state.
        max_rounds: The bound, at least 1, known before the program runs.

    Returns:
        The last state, and whether the loop ended by itself (a boolean scalar): return it as an output, so
        that a task that needed more rounds is told from one that was done.

    Raises:
        InputRefused: `max_rounds` is not a whole number in range.

    Under `jax.vmap` every member would count for itself and the bound could not be read off the program: put
    the batch inside instead, with `condition` asking whether any member goes on.
    """
    if type(max_rounds) is not int or not 1 <= max_rounds <= ROUNDS_MAX:
        raise InputRefused(
            f"max_rounds is a whole number from 1 to {ROUNDS_MAX}, not {max_rounds!r}.",
            next_step="Give a Python int that is known before the program runs.",
        )
    # Only here: whoever asks for balances and receipts needs no JAX.
    import jax.numpy as jnp
    from jax import lax

    counted = (jnp.int32(0), state)
    _, last = lax.while_loop(
        lambda carry: (carry[0] < max_rounds) & jnp.asarray(condition(carry[1]), bool),
        lambda carry: (carry[0] + 1, body(carry[1])),
        counted,
    )
    return last, ~jnp.asarray(condition(last), bool)
