"""Programs: what is exported runs as the function does; drafts and trees survive JSON; else, a refusal."""

import dataclasses
import json
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.digests import output_digest
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program import trees
from pool_protocol.program.export import export_map, export_step
from pool_protocol.program.load import LoadedProgram
from pool_protocol.program.manifest import (
    Comparator,
    ComparatorKind,
    Group,
    ProgramCost,
    ProgramDraft,
    ProgramKind,
    ProgramManifest,
    TensorType,
    check_tensors,
    parse_draft,
    parse_manifest,
)

F32 = np.float32
X = np.linspace(-1, 1, 12, dtype=F32).reshape(3, 4)


class Pair(NamedTuple):
    left: Any
    right: Any


def refused(action: Any) -> ErrorCode:
    with pytest.raises(PoolError) as raised:
        action()
    return raised.value.code


def classify(constants: Any, inputs: Any) -> Any:
    hidden = jnp.tanh(inputs["pixels"] @ constants["layers"][0] + constants["layers"][1])
    return {"label": jnp.argmax(hidden, axis=-1), "score": (hidden.max(), hidden)}


def test_a_map_program_computes_what_the_function_does() -> None:
    constants = {"layers": [np.ones((4, 5), F32), np.arange(5, dtype=F32)]}
    inputs = {"pixels": X}
    program = export_map(classify, inputs, constants)
    assert [argument.tensor.name for argument in program.draft.arguments] == [
        "layers/0",
        "layers/1",
        "pixels",
    ]
    loaded = LoadedProgram(program.artifact, program.draft)
    draft = program.draft
    flat_constants = trees.flatten(constants, draft.argument_trees[Group.CONSTANTS])
    flat_inputs = trees.flatten(inputs, draft.argument_trees[Group.INPUTS])
    outputs = loaded.run_map(flat_inputs, loaded.place(flat_constants))
    assert sorted(outputs) == ["label", "score/0", "score/1"]
    value = trees.unflatten(outputs, draft.output_tree)
    expected = jax.jit(classify)(constants, inputs)
    np.testing.assert_array_equal(value["label"], expected["label"])
    assert isinstance(value["score"], tuple)
    np.testing.assert_array_equal(value["score"][1], expected["score"][1])
    check_tensors(outputs, draft.output_types)
    assert loaded.temporary_bytes >= 0


def test_equal_programs_have_equal_ids_wherever_they_are_written() -> None:
    first = export_map(lambda x: jnp.sin(x) + 1, X)

    def another_name_elsewhere(values: Any) -> Any:
        return jnp.sin(values) + 1

    second = export_map(another_name_elsewhere, X)
    assert first.artifact == second.artifact
    assert first.draft == second.draft
    assert b"another_name" not in second.artifact
    assert __file__.encode() not in second.artifact


def test_programs_that_only_compute_the_same_have_different_ids() -> None:
    def renamed(inputs: Any) -> Any:
        return {"value": jnp.sin(inputs["t"]) + 1}

    plain = export_map(lambda x: jnp.sin(x) + 1, X).artifact
    named = export_map(lambda inputs: {"y": jnp.sin(inputs["x"]) + 1}, {"x": X}).artifact
    others = [export_map(renamed, {"t": X}).artifact]
    for unit_steps in (1, 2):
        step = export_step(lambda state, _inputs, _constants: state + 1, X, None, None, unit_steps=unit_steps)
        others.append(step.artifact)
    assert len({plain, named, *others}) == 5
    tolerant = Comparator(kind=ComparatorKind.CLOSE, rtol=1e-3, atol=0.0)
    assert export_map(lambda x: jnp.sin(x) + 1, X, comparators=tolerant).artifact == plain


def gradient_step(state: Any, inputs: Any, constants: Any) -> Any:
    def loss(weights: Any) -> Any:
        return jnp.mean((inputs["x"] @ weights - inputs["y"]) ** 2)

    return {"w": state["w"] - constants * jax.grad(loss)(state["w"]), "n": state["n"] + 1}


def test_a_step_program_gives_the_same_state_in_any_chunks() -> None:
    chance = np.random.default_rng(3)
    state = {"n": np.asarray(0, np.int32), "w": np.zeros(4, F32)}
    inputs = {"x": chance.normal(size=(20, 4)).astype(F32), "y": chance.normal(size=20).astype(F32)}
    program = export_step(gradient_step, state, inputs, F32(0.1), unit_steps=10)
    assert program.draft.kind is ProgramKind.STEP
    assert program.draft.arguments[0].group is Group.STEP_COUNT
    loaded = LoadedProgram(program.artifact, program.draft)
    constants = {"value": np.asarray(0.1, F32)}
    digests = set()
    current: Any = state
    for chunks in ([30], [10, 10, 10], [1, 7, 0, 22]):
        current = state
        for count in chunks:
            current = loaded.run_steps(count, current, inputs, constants)
        assert current["n"] == 30
        digests.add(output_digest(current))
    assert len(digests) == 1
    expected: Any = state
    for _ in range(30):
        expected = gradient_step(expected, inputs, F32(0.1))
    np.testing.assert_allclose(current["w"], expected["w"], rtol=1e-5)


def test_scalars_none_and_bare_arrays() -> None:
    program = export_map(lambda x: [x * 2.0, None, {"n": jnp.int32(7)}], 1.5)
    outputs = LoadedProgram(program.artifact, program.draft).run_map({"value": np.asarray(1.5, F32)})
    assert trees.unflatten(outputs, program.draft.output_tree) == [3.0, None, {"n": 7}]


def test_64_bit_programs_carry_their_switch_with_them() -> None:
    with jax.enable_x64(True):
        program = export_map(lambda x: x + 1e-12, np.ones(2, np.float64))
    assert program.draft.x64
    assert program.draft.output_types[0].dtype == "float64"
    result = LoadedProgram(program.artifact, program.draft).run_map({"value": np.ones(2)})["value"]
    assert result.dtype == np.float64
    assert result[0] == 1 + 1e-12


def test_wrong_calls_are_refused_before_anything_runs() -> None:
    program = export_map(jnp.sin, X)
    loaded = LoadedProgram(program.artifact, program.draft)
    for inputs in ({}, {"x": X}, {"value": X[:2]}, {"value": X.astype(np.float64)}, {"value": X, "more": X}):
        assert refused(lambda inputs=inputs: loaded.run_map(inputs)) is ErrorCode.INVALID_ARGUMENT
    assert refused(lambda: loaded.run_steps(1, {"value": X})) is ErrorCode.INVALID_ARGUMENT
    steps = export_step(lambda s, i, c: s + 1, F32(0), unit_steps=1)
    counter = LoadedProgram(steps.artifact, steps.draft)
    assert refused(lambda: counter.run_steps(-1, {"value": F32(0)})) is ErrorCode.INVALID_ARGUMENT
    assert (
        refused(lambda: LoadedProgram(program.artifact + b"x", program.draft))
        is ErrorCode.PROGRAM_DIGEST_MISMATCH
    )
    assert refused(lambda: check_tensors({}, program.draft.output_types)) is ErrorCode.OUTPUT_MALFORMED


def _prints(x: Any) -> Any:
    jax.debug.print("{}", x)
    return x


def test_what_cannot_be_a_program_is_refused_at_export() -> None:
    shape = jax.ShapeDtypeStruct(X.shape, X.dtype)  # type: ignore[no-untyped-call]
    symbolic = jax.ShapeDtypeStruct(jax.export.symbolic_shape("n"), jnp.float32)  # type: ignore[no-untyped-call]
    cases: list[tuple[Any, ErrorCode]] = [
        (lambda: export_map(lambda x: jax.pure_callback(np.sin, shape, x), X), ErrorCode.PROGRAM_CALLBACK),
        (lambda: export_map(_prints, X), ErrorCode.PROGRAM_CALLBACK),
        (lambda: export_map(lambda p: p.left, Pair(X, X)), ErrorCode.PROGRAM_CUSTOM_PYTREE),
        (lambda: export_map(lambda x: Pair(x, x), X), ErrorCode.PROGRAM_CUSTOM_PYTREE),
        (lambda: export_map(lambda x: x[1], {1: X}), ErrorCode.PROGRAM_CUSTOM_PYTREE),
        (lambda: export_map(lambda x: x, "text"), ErrorCode.PROGRAM_CUSTOM_PYTREE),
        (lambda: export_map(lambda x: x, symbolic), ErrorCode.PROGRAM_DYNAMIC_SHAPE),
        (lambda: export_map(lambda x: None, X), ErrorCode.PROGRAM_MANIFEST_INVALID),
        (lambda: export_map(jnp.sin, X, platforms=("tpu",)), ErrorCode.PROGRAM_MANIFEST_INVALID),
        (
            lambda: export_step(lambda s, i, c: s * 1.5, np.int32(1), unit_steps=1),
            ErrorCode.PROGRAM_SIGNATURE_MISMATCH,
        ),
        (
            lambda: export_step(lambda s, i, c: (s, s), F32(1), unit_steps=1),
            ErrorCode.PROGRAM_SIGNATURE_MISMATCH,
        ),
        (lambda: export_step(lambda s, i, c: s, F32(1), unit_steps=0), ErrorCode.PROGRAM_MANIFEST_INVALID),
    ]
    for action, code in cases:
        assert refused(action) is code


def test_the_authors_own_errors_are_not_dressed_up() -> None:
    def broken(_: Any) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        export_map(broken, X)


DRAFT = export_map(
    classify,
    {"pixels": X},
    {"layers": [np.ones((4, 5), F32), np.arange(5, dtype=F32)]},
    comparators={"score/0": Comparator(kind=ComparatorKind.CLOSE, rtol=1e-5, atol=1e-8)},
).draft
COST = ProgramCost(
    operations={"stablehlo.add": 3},
    flops=10,
    bytes_moved=20,
    work_uwu=1,
    peak_bytes=30,
    temporary_bytes=5,
    cost_model=1,
)


def test_drafts_and_manifests_survive_json_and_nothing_else_does() -> None:
    assert parse_draft(DRAFT.to_json()) == DRAFT
    manifest = ProgramManifest(draft=DRAFT, cost=COST)
    assert parse_manifest(manifest.to_json()) == manifest
    assert refused(lambda: parse_draft(manifest.to_json())) is ErrorCode.PROGRAM_MANIFEST_INVALID
    assert refused(lambda: parse_manifest(DRAFT.to_json())) is ErrorCode.PROGRAM_MANIFEST_INVALID
    spaced = json.dumps(json.loads(DRAFT.to_json()), sort_keys=True).encode()
    for content in (b"", b"[]", b"[" * 99_999, b"{}", spaced, b"x" * 2_000_000):
        assert refused(lambda content=content: parse_draft(content)) is ErrorCode.PROGRAM_MANIFEST_INVALID


_LEAF_EDITS: list[tuple[tuple[Any, ...], Any]] = [
    (("format",), 2),
    (("kind",), "other"),
    (("kind",), "step"),
    (("unit_steps",), 3),
    (("unit_steps",), True),
    (("x64",), "yes"),
    (("platforms",), []),
    (("platforms",), ["cuda", "cpu"]),
    (("platforms",), ["cpu", "cpu"]),
    (("jax_version",), "latest"),
    (("calling_convention",), "10"),
    (("custom_calls",), "everything"),
    (("arguments", 0, "dtype"), "object"),
    (("arguments", 0, "dtype"), 3),
    (("arguments", 0, "name"), "other"),
    (("arguments", 0, "name"), ""),
    (("arguments", 0, "group"), "state"),
    (("arguments", 0, "shape"), [-1]),
    (("arguments", 0, "shape"), [1.0]),
    (("arguments", 0, "shape"), [1] * 17),
    (("arguments", 0, "shape"), [2**50]),
    (("outputs",), []),
    (("outputs", 0, "comparator", "rtol"), 1.0),
    (("outputs", 1, "comparator", "rtol"), -1.0),
    (("outputs", 1, "comparator", "rtol"), 1),
    (("outputs", 1, "comparator", "kind"), "loose"),
    (("argument_trees",), {}),
    (("argument_trees", "inputs"), {"set": []}),
    (("argument_trees", "inputs"), 5),
    (("argument_trees", "inputs"), {"list": {}}),
    (("output_tree",), None),
]


@pytest.mark.parametrize(("path", "value"), _LEAF_EDITS)
def test_attack_a_draft_that_contradicts_itself(path: tuple[Any, ...], value: Any) -> None:
    content = json.loads(DRAFT.to_json())
    place = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    edited = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    assert refused(lambda: parse_draft(edited)) is ErrorCode.PROGRAM_MANIFEST_INVALID


def test_attack_a_step_draft_whose_state_changes() -> None:
    draft = export_step(lambda s, i, c: s + 1, np.zeros(3, F32), unit_steps=2).draft
    wider = dataclasses.replace(
        draft.outputs[0], tensor=TensorType(name="value", dtype="float32", shape=(4,))
    )
    wide_count = dataclasses.replace(draft.arguments[0], tensor=TensorType(name="k", dtype="int64", shape=()))
    for changes in ({"outputs": (wider,)}, {"arguments": (wide_count, *draft.arguments[1:])}):
        assert refused(lambda changes=changes: _changed(draft, changes)) is ErrorCode.PROGRAM_MANIFEST_INVALID


def _changed(draft: ProgramDraft, changes: dict[str, Any]) -> ProgramDraft:
    return dataclasses.replace(draft, **changes)


def test_costs_are_not_negative_and_work_is_not_free() -> None:
    for changes in ({"flops": -1}, {"work_uwu": 0}, {"operations": {"stablehlo.add": 0}}):
        assert (
            refused(lambda changes=changes: dataclasses.replace(COST, **changes))
            is ErrorCode.PROGRAM_MANIFEST_INVALID
        )


_CONTAINERS: Any = st.recursive(
    st.integers(0, 9).map(float) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text("ab/~0", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(_CONTAINERS)
def test_any_container_comes_back_from_its_names(value: Any) -> None:
    tree = trees.check_tree(json.loads(json.dumps(trees.tree_of(value))))
    leaves = trees.flatten(value, tree)
    assert len(leaves) == len(trees.leaf_names(tree)), "two arrays have one name"
    assert trees.unflatten(leaves, tree) == value
    assert jax.tree.leaves(value) == trees.leaves_of(value, tree), "our order is JAX's"


def test_containers_of_another_structure_are_refused() -> None:
    tree = trees.tree_of({"a": [1.0, (2.0,)], "b": None})
    for value in ({"a": [1.0, (2.0,)]}, {"a": [1.0], "b": None}, {"a": [1.0, (2.0,)], "b": 3.0}, [1.0]):
        assert refused(lambda value=value: trees.leaves_of(value, tree)) is ErrorCode.INVALID_ARGUMENT
    assert refused(lambda: trees.unflatten({"a/0": 1.0}, tree)) is ErrorCode.INVALID_ARGUMENT
    deep: Any = 1.0
    for _ in range(40):
        deep = [deep]
    assert refused(lambda: trees.tree_of(deep)) is ErrorCode.PROGRAM_CUSTOM_PYTREE
    deep_tree: Any = "*"
    for _ in range(40):
        deep_tree = {"list": [deep_tree]}
    assert refused(lambda: trees.check_tree(deep_tree)) is ErrorCode.PROGRAM_MANIFEST_INVALID


def test_manifests_and_trees_need_no_jax() -> None:
    script = (
        "import sys, pool_protocol.program.manifest; print([m for m in ('jax', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
