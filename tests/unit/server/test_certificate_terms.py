"""Which programs fit as certificates: the rules in their order, and what the refusal says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program import trees
from pool_protocol.program.manifest import (
    Argument,
    CustomCalls,
    Group,
    Output,
    ProgramCost,
    ProgramDraft,
    ProgramKind,
    ProgramManifest,
    TensorType,
)
from pool_server.app.certificate_terms import check_certificate, nonce_words
from pool_server.identity.signing import SecretDraws

Types = dict[str, tuple[str, tuple[int, ...]]]
COST = ProgramCost(
    operations={}, flops=0, bytes_moved=0, work_uwu=1, peak_bytes=0, temporary_bytes=0, cost_model=1
)


def tree_of(types: Types) -> Any:
    """The nested dicts that these names come from."""
    nested: dict[str, Any] = {}
    for name in types:
        *path, last = name.split("/")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = 0.0
    return trees.tree_of(nested)


def tensors_of(types: Types) -> list[TensorType]:
    names = trees.leaf_names(tree_of(types))
    return [TensorType(name=name, dtype=types[name][0], shape=types[name][1]) for name in names]


def program(
    inputs: Types, outputs: Types, constants: Types | None = None, *, state: Types | None = None
) -> ProgramManifest:
    kind = ProgramKind.MAP if state is None else ProgramKind.STEP
    groups = {Group.CONSTANTS: constants or {}, Group.INPUTS: inputs}
    order = [Group.CONSTANTS, Group.INPUTS]
    arguments: list[Argument] = []
    if state is not None:
        groups[Group.STATE] = state
        order = [Group.STATE, Group.INPUTS, Group.CONSTANTS]
        arguments.append(
            Argument(group=Group.STEP_COUNT, tensor=TensorType(name="k", dtype="int32", shape=()))
        )
    for group in order:
        arguments += [Argument(group=group, tensor=tensor) for tensor in tensors_of(groups[group])]
    draft = ProgramDraft(
        kind=kind,
        artifact_sha256=sha256_hex(b"any"),
        jax_version="0.10.2",
        calling_convention=10,
        platforms=("cpu",),
        x64=False,
        custom_calls=CustomCalls.NONE,
        arguments=tuple(arguments),
        outputs=tuple(Output(tensor=tensor) for tensor in tensors_of(outputs)),
        argument_trees={group: tree_of(groups[group]) for group in groups},
        output_tree=tree_of(outputs),
        unit_steps=0 if state is None else 1,
    )
    return ProgramManifest(draft=draft, cost=COST)


F2 = ("float32", (2,))
TASK = program({"a": F2, "b": F2}, {"c": F2}, {"w": F2})
STEPS = program({"a": F2}, {"s": F2}, state={"s": F2})
OK: Types = {"ok": ("bool", ())}
NONCE = ("uint32", (2,))
FITTING: Types = {"inputs/a": F2, "inputs/b": F2, "outputs/c": F2, "nonce": NONCE}


@pytest.mark.parametrize(
    "certificate",
    [
        program(FITTING, OK),
        program(FITTING, OK, {"w": F2}),
        program({"outputs/c": F2}, OK),
        program({"outputs/c": F2, "nonce": ("uint32", (64,))}, OK),
    ],
)
def test_what_fits(certificate: ProgramManifest) -> None:
    check_certificate(TASK, certificate)


def test_a_step_programs_state_counts_as_inputs() -> None:
    check_certificate(STEPS, program({"inputs/state/s": F2, "outputs/s": F2}, OK))


@pytest.mark.parametrize(
    ("certificate", "says"),
    [
        (STEPS, "step program"),
        (program(FITTING, {"fine": ("bool", ())}), "named 'ok'"),
        (program(FITTING, {"ok": ("float32", ())}), "one boolean scalar"),
        (program(FITTING, {"ok": ("bool", (1,))}), "one boolean scalar"),
        (program(FITTING, {**OK, "more": ("bool", ())}), "one boolean scalar"),
        (program({"inputs/a": F2, "nonce": NONCE}, OK), "take one of 'outputs/c'"),
        (program({"outputs/c": F2, "nonce": ("int32", (2,))}, OK), "take uint32"),
        (program({"outputs/c": F2, "nonce": ("uint32", ())}, OK), "take uint32"),
        (program({"outputs/c": F2, "nonce": ("uint32", (65,))}, OK), "from 1 to 64"),
        (program({"outputs/c": F2, "inputs/z": F2}, OK), "'inputs/z', which tasks do not have"),
        (program({"outputs/c": F2, "inputs/a": ("float32", (3,))}, OK), r"make it float32\[2\]"),
        (program({"outputs/c": ("float64", (2,))}, OK), r"make it float32\[2\]"),
        (program(FITTING, OK, {"v": F2}), "all of them, or none"),
    ],
)
def test_what_does_not_fit_and_why(certificate: ProgramManifest, says: str) -> None:
    with pytest.raises(PoolError, match=says) as refused:
        check_certificate(TASK, certificate)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert refused.value.context["field"] == "certificate_sha256"


def test_words_of_the_nonce() -> None:
    assert nonce_words(program(FITTING, OK)) == 2
    assert nonce_words(program({"outputs/c": F2}, OK)) == 0


def test_a_nonce_follows_from_secret_attempt_and_result_and_from_nothing_less() -> None:
    draws, others = SecretDraws(b"one"), SecretDraws(b"two")

    def nonce(draw: SecretDraws = draws, attempt_id: int = 1, digest: bytes = b"d" * 32) -> bytes:
        return draw.nonce(attempt_id=attempt_id, output_digest=digest, size_bytes=100)

    assert nonce() == nonce()
    assert len(nonce()) == 100
    different = {nonce(), nonce(others), nonce(attempt_id=2), nonce(digest=b"e" * 32)}
    assert len(different) == 4
    assert np.frombuffer(nonce(), np.uint8).std() > 50, "it looks like chance"
