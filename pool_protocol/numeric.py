"""Numeric classes: which families of operations are probed, what a probe says, and what two probes share.

A probe runs a few micro-programs per family under the pinned numeric profile: one SHA-256 per family.
Machines with equal digests of a family return equal bits for it; names of processors say nothing about that.
Pure: `pool_protocol.program.probe` runs the probe; what follows from it is the pool's matter.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from pool_protocol.errors import ErrorCode, PoolError

#: Version of the set of micro-programs: a change of any of them, or of their inputs, is a new one.
PROBE_VERSION: Final = 1
#: The pinned numeric profile of workers, "pp1".
PROFILE: Final = "pp1"
#: What "pp1" is: results on any x86-64 computer with AVX2 agree bit by bit, and so do all ARM ones.
PROFILE_ENVIRONMENT: Final[Mapping[str, str]] = {
    "XLA_FLAGS": "--xla_cpu_enable_platform_dependent_math=false --xla_cpu_max_isa=AVX2",
    "NPROC": "4",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENBLAS_CORETYPE": "Haswell",
}
PROBE_DIGEST_BYTES: Final = 32
#: A class's id is this many hexadecimal digits of a SHA-256.
CLASS_ID_DIGITS: Final = 16

_VERSION_MAX: Final = 1_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,39}")


@unique
class Family(StrEnum):
    """Operations that share their numerics: kernels, instruction sets, approximations."""

    ELEMENTWISE = "elementwise"
    TRANSCENDENTAL = "transcendental"
    RSQRT = "rsqrt"
    DOT = "dot"
    DOT_TRANSPOSED = "dot_transposed"
    CONV = "conv"
    REDUCE = "reduce"
    FFT = "fft"
    RNG = "rng"
    LAPACK = "lapack"
    INTEGER = "integer"
    SORT = "sort"


_E = frozenset({Family.ELEMENTWISE})
_T = frozenset({Family.TRANSCENDENTAL})
_R = frozenset({Family.REDUCE})
_I = frozenset({Family.INTEGER})
_D = frozenset({Family.DOT, Family.DOT_TRANSPOSED})

#: Families of StableHLO's operations, by names without the dialect. What is not named here may be anything.
_FAMILIES_OF: Final[Mapping[str, frozenset[Family]]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "abs", "add", "clamp", "convert", "divide", "map", "maximum", "minimum", "multiply", "negate",
                "reduce_precision", "remainder", "sign", "sqrt", "subtract", "ceil", "floor",
                "round_nearest_afz", "round_nearest_even", "is_finite", "complex", "real", "imag",
            ),
            _E,
        ),
        **dict.fromkeys(
            (
                "atan2", "cbrt", "cosine", "exponential", "exponential_minus_one", "log", "log_plus_one",
                "logistic", "power", "sine", "tan", "tanh",
            ),
            _T,
        ),
        "rsqrt": frozenset({Family.RSQRT}),
        "dot_general": _D,
        "convolution": frozenset({Family.CONV}) | _D,
        **dict.fromkeys(("reduce", "reduce_window", "select_and_scatter", "scatter"), _R),
        "fft": frozenset({Family.FFT}),
        "rng_bit_generator": frozenset({Family.RNG}),
        **dict.fromkeys(("custom_call", "cholesky", "triangular_solve"), frozenset({Family.LAPACK})),
        "sort": frozenset({Family.SORT}),
        **dict.fromkeys(
            (
                "and", "bitcast_convert", "broadcast_in_dim", "case", "compare", "concatenate", "constant",
                "count_leading_zeros", "dynamic_slice", "dynamic_update_slice", "gather", "get_tuple_element",
                "if", "iota", "not", "optimization_barrier", "or", "pad", "popcnt", "reshape", "return",
                "reverse", "select", "shift_left", "shift_right_arithmetic", "shift_right_logical", "slice",
                "transpose", "tuple", "while", "xor", "call",
            ),
            _I,
        ),
    }
)  # fmt: skip


#: With whole arguments and results these make no fraction on the way: the same bits on every machine.
_WHOLE_OPERATIONS: Final = frozenset({
    name for name, families in _FAMILIES_OF.items() if families == _I
} | {
    "abs", "add", "clamp", "map", "maximum", "minimum", "multiply", "negate", "reduce", "reduce_window",
    "remainder", "rng_bit_generator", "scatter", "sign", "sort", "subtract",
})  # fmt: skip


def families_of(operations: Iterable[str], *, dtypes: Iterable[str]) -> frozenset[Family]:
    """Return the families that a program uses; INTEGER alone for one that makes no fractions.

    An operation that is not known may be anything: then all families are used.

    Args:
        operations: Names as a manifest records them, "stablehlo.add".
        dtypes: Element types of the program's arguments and results.
    """
    names = {operation.rpartition(".")[2] for operation in operations}
    if names <= _WHOLE_OPERATIONS and not any("float" in dtype or "complex" in dtype for dtype in dtypes):
        return _I
    found: set[Family] = set()
    for name in names:
        families = _FAMILIES_OF.get(name)
        if families is None:
            return frozenset(Family)
        found |= families
    return frozenset(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a vehicle's probe found.

    Raises:
        PoolError: INVALID_ARGUMENT when it is not well-formed; field "numeric".
    """

    probe_version: int
    jaxlib_version: str
    platform: str
    profile: str
    families: Mapping[str, bytes]
    """SHA-256 by family: all families of this version of the probe, and no other."""

    def __post_init__(self) -> None:
        """Check every part."""
        if not 1 <= self.probe_version <= _VERSION_MAX:
            raise _invalid(f"probe_version {self.probe_version} is not known")
        for what, name in (
            ("jaxlib's version", self.jaxlib_version),
            ("the platform", self.platform),
            ("the profile", self.profile),
        ):
            if _NAME.fullmatch(name) is None:
                raise _invalid(f"{what} is not a name: {name[:40]!r}")
        known = {family.value for family in Family}
        if self.families.keys() != known:
            strange = sorted(name[:40] for name in self.families.keys() - known)[:3]
            missing = sorted(known - self.families.keys())[:3]
            raise _invalid(f"families missing: {missing}, not known: {strange}")
        for name, digest in self.families.items():
            if len(digest) != PROBE_DIGEST_BYTES:
                raise _invalid(f"the digest of {name} has {len(digest)} bytes, not {PROBE_DIGEST_BYTES}")
        object.__setattr__(self, "families", MappingProxyType(dict(self.families)))

    @property
    def class_id(self) -> str:
        """The numeric class: the first 16 hexadecimal digits of the SHA-256 over everything here."""
        return hashlib.sha256(self.to_json()).hexdigest()[:CLASS_ID_DIGITS]

    def to_json(self) -> bytes:
        """Return the canonical JSON bytes."""
        content = {
            "families": {name: digest.hex() for name, digest in self.families.items()},
            "jaxlib": self.jaxlib_version,
            "platform": self.platform,
            "probe": self.probe_version,
            "profile": self.profile,
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def parse_probe(content: bytes | str) -> Probe:
    """Read what `Probe.to_json` wrote.

    Raises:
        PoolError: INVALID_ARGUMENT.
    """
    try:
        fields = json.loads(content)
        return Probe(
            probe_version=int(fields["probe"]),
            jaxlib_version=str(fields["jaxlib"]),
            platform=str(fields["platform"]),
            profile=str(fields["profile"]),
            families={str(name): bytes.fromhex(text) for name, text in fields["families"].items()},
        )
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise _invalid(f"it cannot be read: {type(error).__name__}") from error


def comparable(one: Probe, other: Probe, used: Iterable[Family]) -> bool:
    """Say whether two machines must return equal bits for a program that uses these families.

    Programs over whole numbers are comparable everywhere; for the others versions, platform and profile must
    be the same, and the digests of the families used.
    """
    families = set(used)
    if families <= _I:
        return True
    heads = [(p.probe_version, p.jaxlib_version, p.platform, p.profile) for p in (one, other)]
    return heads[0] == heads[1] and all(one.families[name] == other.families[name] for name in families)


def _invalid(why: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, f"the numeric probe: {why}", context={"field": "numeric"})
