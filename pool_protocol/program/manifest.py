"""What a program is: kind, arguments, results, trees, and what the pool measured. Pure; no JAX here.

A *draft* is what a buyer's SDK writes beside the artifact. A *manifest* is a draft whose every claim the
pool checked, with the figures that the pool computed itself. Both are canonical JSON: keys sorted, no
spaces, ASCII, one spelling per value; a document that is not in that form is refused.

Arrays have names inside their group (`constants`, `inputs`, `state`, and the outputs): the path through
dicts, lists and tuples, joined by "/", with "~" and "/" inside keys written "~0" and "~1" as in JSON
pointers; a group that is one bare array calls it "value" (`trees`).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pool_protocol import ids
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import PROGRAM_LIMITS, UNIT_STEPS_MAX
from pool_protocol.program import trees
from pool_protocol.program.signature import (
    EXACT,
    GROUP_ORDER,
    PLATFORMS,
    STEP_COUNT_NAME,
    Argument,
    Comparator,
    ComparatorKind,
    CustomCalls,
    Group,
    Output,
    ProgramKind,
    TensorType,
    check_tensors,
)

__all__ = [
    "EXACT",
    "FORMAT",
    "GROUP_ORDER",
    "PLATFORMS",
    "STEP_COUNT_NAME",
    "Argument",
    "Comparator",
    "ComparatorKind",
    "CustomCalls",
    "Group",
    "Output",
    "ProgramCost",
    "ProgramDraft",
    "ProgramKind",
    "ProgramManifest",
    "TensorType",
    "check_tensors",
    "parse_draft",
    "parse_manifest",
]

FORMAT = 1
_JAX_VERSION = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramDraft:
    """A program as its author describes it. Valid once built, true only after admission.

    Raises:
        PoolError: PROGRAM_MANIFEST_INVALID when the parts contradict each other or break a limit.
    """

    kind: ProgramKind
    artifact_sha256: ids.Sha256Hex
    jax_version: str
    """The version that exported it, "0.10.2"."""
    calling_convention: int
    platforms: tuple[str, ...]
    x64: bool
    """Whether 64-bit types are on while it is loaded and run."""
    custom_calls: CustomCalls
    arguments: tuple[Argument, ...]
    """In the order in which the exported function takes them."""
    outputs: tuple[Output, ...]
    """In the order in which it returns them; for a step program the state, named as the state argument."""
    argument_trees: Mapping[Group, trees.Tree]
    """The containers of each group except the step count."""
    output_tree: trees.Tree
    unit_steps: int
    """K, the steps of one unit; 0 for a map program."""

    def __post_init__(self) -> None:
        """Check what the class promises, cheapest first."""
        ids.parse_sha256_hex(self.artifact_sha256)
        if _JAX_VERSION.fullmatch(self.jax_version) is None:
            raise _invalid(f"not a version of JAX: {self.jax_version[:20]!r}")
        if not self.platforms or sorted(set(self.platforms)) != list(self.platforms):
            raise _invalid("platforms must be named, once each, in order")
        if not set(self.platforms) <= set(PLATFORMS):
            raise _invalid(f"platforms are {PLATFORMS}, not {self.platforms}")
        if len(self.arguments) + len(self.outputs) > PROGRAM_LIMITS.arguments_max:
            raise _invalid(f"more than {PROGRAM_LIMITS.arguments_max} arguments and results")
        is_step = self.kind is ProgramKind.STEP
        if (is_step and not 1 <= self.unit_steps <= UNIT_STEPS_MAX) or (not is_step and self.unit_steps != 0):
            raise _invalid(f"unit_steps {self.unit_steps} does not fit a {self.kind.value} program")
        self._check_groups()
        self._check_outputs()
        object.__setattr__(self, "argument_trees", MappingProxyType(dict(self.argument_trees)))

    def _check_groups(self) -> None:
        expected: list[tuple[Group, str]] = []
        order = GROUP_ORDER[self.kind]
        if set(self.argument_trees) != set(order) - {Group.STEP_COUNT}:
            raise _invalid("the argument trees are not those of the program's groups")
        for group in order:
            if group is Group.STEP_COUNT:
                expected.append((group, STEP_COUNT_NAME))
                continue
            tree = trees.check_tree(self.argument_trees[group])
            expected += [(group, name) for name in trees.leaf_names(tree)]
        if [(argument.group, argument.tensor.name) for argument in self.arguments] != expected:
            raise _invalid("the arguments are not the arrays of their trees, in order")
        if self.kind is ProgramKind.STEP:
            count = self.arguments[0].tensor
            if (count.dtype, count.shape) != ("int32", ()):
                raise _invalid("the step count must be an int32 scalar")

    def _check_outputs(self) -> None:
        names = trees.leaf_names(trees.check_tree(self.output_tree))
        if not names or [output.tensor.name for output in self.outputs] != names:
            raise _invalid("the outputs are not the arrays of their tree, in order, or there are none")
        if self.kind is ProgramKind.STEP:
            state = [argument.tensor for argument in self.group(Group.STATE)]
            if state != [output.tensor for output in self.outputs]:
                raise _invalid("a step must return a state of the types and shapes that it takes")
            if self.output_tree != self.argument_trees[Group.STATE]:
                raise _invalid("a step must return a state of the structure that it takes")

    def group(self, group: Group) -> tuple[Argument, ...]:
        """Return the arguments of one group, in order."""
        return tuple(argument for argument in self.arguments if argument.group is group)

    def tensor_types(self, group: Group) -> tuple[TensorType, ...]:
        """Return names, types and shapes of one group's arrays: what a bundle must hold."""
        return tuple(argument.tensor for argument in self.group(group))

    @property
    def output_types(self) -> tuple[TensorType, ...]:
        """Names, types and shapes of the outputs."""
        return tuple(output.tensor for output in self.outputs)

    def to_json(self) -> bytes:
        """Return the canonical JSON bytes."""
        return _canonical(_draft_content(self))

    def interface(self) -> bytes:
        """Return what must be equal for two drafts of one computation to be one program, canonically.

        That is all but the artifact's hash, and but the comparators: what compares goes with each job.
        """
        outputs = [_tensor_content(item.tensor) for item in self.outputs]
        return _canonical(_draft_content(self) | {"artifact_sha256": "", "outputs": outputs})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramCost:
    """What the pool computed: per task for a map program, per step for a step program."""

    operations: Mapping[str, int]
    """How often each operation stands in the program, calls inlined, loop bodies counted once."""
    flops: int
    bytes_moved: int
    work_uwu: int
    """The metered work, micro work units, at least 1."""
    peak_bytes: int
    """Arguments, results and temporaries together, as the compiler plans them; of a whole call."""
    temporary_bytes: int
    cost_model: int
    """Which version of the cost model counted."""

    def __post_init__(self) -> None:
        """Refuse negative figures and free work."""
        figures = (self.flops, self.bytes_moved, self.peak_bytes, self.temporary_bytes, self.cost_model)
        if min(figures) < 0 or self.work_uwu < 1 or any(count < 1 for count in self.operations.values()):
            raise _invalid("the figures of a cost must not be negative, and work is at least 1")
        object.__setattr__(self, "operations", MappingProxyType(dict(self.operations)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramManifest:
    """An admitted program: what its author said and the pool confirmed, and what the pool measured."""

    draft: ProgramDraft
    cost: ProgramCost

    @property
    def program_id(self) -> ids.ProgramId:
        """The program's id: the SHA-256 of the artifact that cars run."""
        return ids.ProgramId(self.draft.artifact_sha256)

    def to_json(self) -> bytes:
        """Return the canonical JSON bytes, which the program key signs."""
        return _canonical(_draft_content(self.draft) | {"cost": _cost_content(self.cost)})


def parse_draft(content: bytes) -> ProgramDraft:
    """Read a draft's canonical JSON.

    Raises:
        PoolError: PROGRAM_MANIFEST_INVALID.
    """
    fields = _load(content)
    draft = _draft_of(fields)
    if draft.to_json() != content:
        raise _invalid("it is not in canonical form, or holds unknown fields")
    return draft


def parse_manifest(content: bytes) -> ProgramManifest:
    """Read an admitted manifest's canonical JSON. Only after its signature was checked.

    Raises:
        PoolError: PROGRAM_MANIFEST_INVALID.
    """
    fields = _load(content)
    try:
        cost_fields = dict(fields["cost"])
        for name in ("flops", "bytes_moved", "work_uwu", "peak_bytes", "temporary_bytes", "cost_model"):
            _require_int(cost_fields[name])
        operations = {str(name): _require_int(count) for name, count in cost_fields.pop("operations").items()}
        cost = ProgramCost(operations=operations, **cost_fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _invalid(f"the cost is not well-formed: {type(error).__name__}") from error
    manifest = ProgramManifest(draft=_draft_of(fields), cost=cost)
    if manifest.to_json() != content:
        raise _invalid("it is not in canonical form, or holds unknown fields")
    return manifest


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def _load(content: bytes) -> Mapping[str, Any]:
    if len(content) > PROGRAM_LIMITS.manifest_bytes_max:
        raise _invalid(f"{len(content)} bytes are too many")
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _invalid("it is not JSON") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise _invalid(f"it is not a manifest of format {FORMAT}")
    return fields


def _tensor_content(tensor: TensorType) -> dict[str, Any]:
    return {"dtype": tensor.dtype, "name": tensor.name, "shape": list(tensor.shape)}


def _draft_content(draft: ProgramDraft) -> dict[str, Any]:
    return {
        "argument_trees": {group.value: tree for group, tree in draft.argument_trees.items()},
        "arguments": [_tensor_content(item.tensor) | {"group": item.group.value} for item in draft.arguments],
        "artifact_sha256": draft.artifact_sha256,
        "calling_convention": draft.calling_convention,
        "custom_calls": draft.custom_calls.value,
        "format": FORMAT,
        "jax_version": draft.jax_version,
        "kind": draft.kind.value,
        "output_tree": draft.output_tree,
        "outputs": [
            _tensor_content(item.tensor)
            | {
                "comparator": {
                    "atol": item.comparator.atol,
                    "kind": item.comparator.kind.value,
                    "rtol": item.comparator.rtol,
                }
            }
            for item in draft.outputs
        ],
        "platforms": list(draft.platforms),
        "unit_steps": draft.unit_steps,
        "x64": draft.x64,
    }


def _cost_content(cost: ProgramCost) -> dict[str, Any]:
    return {
        "bytes_moved": cost.bytes_moved,
        "cost_model": cost.cost_model,
        "flops": cost.flops,
        "operations": dict(cost.operations),
        "peak_bytes": cost.peak_bytes,
        "temporary_bytes": cost.temporary_bytes,
        "work_uwu": cost.work_uwu,
    }


def _draft_of(fields: Mapping[str, Any]) -> ProgramDraft:
    try:
        return ProgramDraft(
            kind=ProgramKind(fields["kind"]),
            artifact_sha256=ids.Sha256Hex(_require_text(fields["artifact_sha256"])),
            jax_version=_require_text(fields["jax_version"]),
            calling_convention=_require_int(fields["calling_convention"]),
            platforms=tuple(_require_text(name) for name in fields["platforms"]),
            x64=bool(fields["x64"]),
            custom_calls=CustomCalls(fields["custom_calls"]),
            arguments=tuple(
                Argument(group=Group(item["group"]), tensor=_tensor_of(item)) for item in fields["arguments"]
            ),
            outputs=tuple(
                Output(tensor=_tensor_of(item), comparator=_comparator_of(item["comparator"]))
                for item in fields["outputs"]
            ),
            argument_trees={Group(name): tree for name, tree in fields["argument_trees"].items()},
            output_tree=fields["output_tree"],
            unit_steps=_require_int(fields["unit_steps"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _invalid(f"a field is missing or of the wrong type: {error}") from error


def _tensor_of(item: Mapping[str, Any]) -> TensorType:
    return TensorType(
        name=_require_text(item["name"]),
        dtype=_require_text(item["dtype"]),
        shape=tuple(_require_int(size) for size in item["shape"]),
    )


def _comparator_of(item: Mapping[str, Any]) -> Comparator:
    rtol, atol = item["rtol"], item["atol"]
    if not isinstance(rtol, float) or not isinstance(atol, float):
        raise TypeError("a tolerance is not a JSON number with a point")
    return Comparator(kind=ComparatorKind(item["kind"]), rtol=rtol, atol=atol)


def _require_int(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not an integer")
    return value


def _require_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _invalid(reason: str) -> PoolError:
    return PoolError(ErrorCode.PROGRAM_MANIFEST_INVALID, f"not a valid manifest: {reason}")
