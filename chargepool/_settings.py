"""Runs a buyer's own program under numeric settings: the profile that cars are pinned to, and others.

Each setting is a child process, since XLA and BLAS read theirs once, when they start. What the other settings
change is what other processors change: which instructions there are, how work is cut into parts, in which
order sums are made. Nothing is sent anywhere; nothing is decided here.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from numpy.typing import NDArray

from chargepool._errors import ChargepoolError, ProgramRefused, from_pool_error
from pool_protocol import tensors
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.numeric import PROFILE, PROFILE_ENVIRONMENT
from pool_protocol.program.manifest import ProgramDraft, ProgramKind

#: How long one process may take, unless the caller says otherwise.
TIMEOUT_S: Final = 300.0
#: Processes at a time; each is a JAX of its own.
_AT_A_TIME: Final = 2
_COMMAND: Final = (sys.executable, "-P", "-m", "chargepool._numerics_child")
#: How a child ends whose program failed; its standard output says how.
PROGRAM_FAILED_STATUS: Final = 3
_COMPLAINT_CHARACTERS: Final = 300
#: What a setting says is not left to the shell that the check was started from.
_NUMERIC_VARIABLES: Final = ("XLA_", "JAX_", "OPENBLAS_", "OMP_", "MKL_", "NPROC", "TF_")

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way of computing."""

    name: str
    what: str
    """What it changes, for people."""
    environment: Mapping[str, str] = field(repr=False)
    rounds_inputs: bool = False
    """Whether the program is given neighbours of its inputs, instead of being run otherwise."""


PINNED: Final = Setting(
    name=PROFILE, what="the profile that cars are pinned to", environment=PROFILE_ENVIRONMENT
)
#: How much one rounding matters. No flag of one processor makes it sum in the order that another would.
ROUNDED: Final = replace(
    PINNED,
    name="rounded",
    what="each input rounded to a neighbour, which any rounding may do",
    rounds_inputs=True,
)
_PINNED_FLAGS: Final = PROFILE_ENVIRONMENT["XLA_FLAGS"]
OTHERS: Final = (
    Setting(
        name="unpinned",
        what="all instructions and mathematics of this processor, work in one part",
        environment=MappingProxyType({"NPROC": "1"}),
    ),
    Setting(
        name="unfused",
        what="no fused multiply-add, narrow vectors, other BLAS kernels, work in two parts",
        environment=MappingProxyType(
            {
                **PROFILE_ENVIRONMENT,
                "XLA_FLAGS": "--xla_cpu_enable_platform_dependent_math=false --xla_cpu_max_isa=SSE4_2",
                "NPROC": "2",
                "OPENBLAS_CORETYPE": "Prescott",
            }
        ),
    ),
    Setting(
        name="reassociated",
        what="fast mathematics: sums and products in another order",
        environment=MappingProxyType(
            {
                **PROFILE_ENVIRONMENT,
                # What is not a number stays one: only the order of operations is free.
                "XLA_FLAGS": f"{_PINNED_FLAGS} --xla_cpu_enable_fast_math=true"
                " --xla_cpu_fast_math_honor_nans=true --xla_cpu_fast_math_honor_infs=true"
                " --xla_cpu_fast_math_honor_division=true --xla_cpu_fast_math_honor_functions=true",
            }
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is run: a program, on samples of its inputs."""

    name: str
    artifact: bytes = field(repr=False)
    draft: ProgramDraft = field(repr=False)
    operations: Collection[str] = field(repr=False)
    """StableHLO operations in it."""
    samples: Sequence[Arrays] = field(repr=False)
    """Bundles of tasks; none: one is made up from the declared types."""
    constants: Arrays = field(repr=False)
    steps: int = 0
    """Steps of one task; 0 for map programs."""
    timeout_s: float = TIMEOUT_S
    """How long each process may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The outputs of one process, by sample."""

    outputs: Sequence[Arrays]
    whole: Sequence[Arrays] = ()
    """Of step programs whose cuts are compared: the same steps in one unit."""


#: The outputs of one process, or why it ended without any.
Outcome = Runs | ChargepoolError
#: Runs a program under each of the settings; of step programs the first compares the cuts too.
RunSettings = Callable[[Workload, Sequence[Setting]], Sequence[Outcome]]


def run_settings(work: Workload, settings: Sequence[Setting]) -> list[Outcome]:
    """Run a program under each of the settings; of step programs the first compares the cuts too."""
    with _laid_out(work) as folder, ThreadPoolExecutor(max_workers=_AT_A_TIME) as threads:
        runs = [
            threads.submit(_run, work, setting, folder, number) for number, setting in enumerate(settings)
        ]
        return [run.result() for run in runs]


@contextmanager
def _laid_out(work: Workload) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="chargepool-numerics-") as name:
        folder = Path(name)
        (folder / "artifact").write_bytes(work.artifact)
        (folder / "draft.json").write_bytes(work.draft.to_json())
        for index, sample in enumerate(work.samples):
            (folder / f"sample-{index}").write_bytes(tensors.encode(sample))
        if work.constants:
            (folder / "constants").write_bytes(tensors.encode(work.constants))
        order = {
            "samples": len(work.samples),
            "constants": bool(work.constants),
            "steps": work.steps,
        }
        (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
        yield folder


def _run(work: Workload, setting: Setting, folder: Path, number: int) -> Outcome:
    also_whole = number == 0 and work.draft.kind is ProgramKind.STEP
    words = [*(["whole"] if also_whole else []), *(["rounded"] if setting.rounds_inputs else [])]
    try:
        ended = subprocess.run(
            (*_COMMAND, str(folder), str(number), *words),
            env=_environment(setting),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=work.timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ProgramRefused(
            f"{work.name} was not done after {work.timeout_s:g} s.",
            code=ErrorCode.PROGRAM_FAILED,
            next_step="Give smaller inputs, fewer steps, or more time.",
        )
    if ended.returncode != 0:
        return _failure(work.name, ended)
    indexes = range(max(len(work.samples), 1))
    return Runs(
        outputs=[_read(folder / f"{number}" / f"{index}") for index in indexes],
        whole=[_read(folder / f"{number}" / f"{index}-whole") for index in indexes] if also_whole else (),
    )


def _failure(name: str, ended: subprocess.CompletedProcess[str]) -> ChargepoolError:
    if ended.returncode == PROGRAM_FAILED_STATUS:
        told = json.loads(ended.stdout)
        return from_pool_error(PoolError(ErrorCode(told["code"]), f"{name}: {told['detail']}"))
    said = ended.stderr.strip().rpartition("\n")[2][:_COMPLAINT_CHARACTERS]
    return ProgramRefused(
        f"The process that ran {name} ended with status {ended.returncode}. {said}".strip(),
        code=ErrorCode.PROGRAM_FAILED,
    )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    return tensors.decode(path.read_bytes())


def _environment(setting: Setting) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NUMERIC_VARIABLES)}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry),
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **setting.environment,
    }
