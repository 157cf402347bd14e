"""What a buyer keeps in files: a function, inputs, constants, results, receipts.

    FILE.py:function   a function of JAX arrays; beside it may stand `example` (a task's inputs), `constants`
    inputs .npz        a dict of arrays by name, whose first axis counts tasks; an array alone that is called
                       "value" (or "arr_0") is the input itself, as is the array of a .npy
    inputs .jsonl      one task per line: numbers and nested lists are arrays, objects are dicts
    results .npz       outputs stacked by task, named by path ("value" when bare), `task_index`,
                       `task_cost_micros`
    results .jsonl     one result per line; what JSON has no number for is a string ("NaN", "Infinity",
                       "-Infinity"), a complex number a pair

Nothing is ever unpickled. Numbers in JSON become int32 and float32, JAX's own defaults.
"""

import importlib.util
import json
import math
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Self

import click
import numpy as np
from numpy.typing import NDArray

from chargepool._values import Result
from pool_protocol.digests import sha256_hex
from pool_protocol.program import trees

#: Names of an array that is the input itself: ours, and the one that `np.savez(file, array)` chooses.
_BARE_NAMES = frozenset({"value", "arr_0"})
_FORMATS = (".npz", ".npy", ".jsonl")


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """A function out of a file, with what the file says beside it."""

    spec: str
    function: Callable[..., Any]
    example: Any
    constants: Any


class FunctionSpec(click.ParamType):  # type: ignore[type-arg]
    """FILE.py:function on the command line."""

    name = "FILE.py:function"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> FunctionSource:
        """Load the file and return the function."""
        if isinstance(value, FunctionSource):
            return value
        path_text, separator, function_name = str(value).rpartition(":")
        path = Path(path_text)
        if not separator or not function_name.isidentifier() or path.suffix != ".py":
            self.fail(f"{value!r} is not FILE.py:function", param, ctx)
        if not path.is_file():
            self.fail(f"there is no file {path}", param, ctx)
        module = _load(path)
        function = getattr(module, function_name, None)
        if not callable(function):
            known = ", ".join(sorted(_functions_of(module))) or "none"
            self.fail(f"{path} has no function {function_name!r}; it has: {known}", param, ctx)
        return FunctionSource(
            spec=f"{path.resolve()}:{function_name}",
            function=function,
            example=getattr(module, "example", None),
            constants=getattr(module, "constants", None),
        )


class CertificateSpec(click.ParamType):  # type: ignore[type-arg]
    """A ready certificate by its name, or FILE.py:function."""

    name = "certificate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the certificate."""
        if ":" in str(value):
            return FunctionSpec().convert(value, param, ctx).function
        from chargepool import certificates

        ready = sorted(name for name in certificates.__all__ if name not in {"Certificate", "signs"})
        if value not in ready:
            self.fail(f"{value!r} is neither FILE.py:FUNCTION nor one of {', '.join(ready)}", param, ctx)
        return getattr(certificates, str(value))()


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"chargepool_buyer_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # its own imports, as if it were run
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise click.ClickException(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    return module


def _functions_of(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if callable(value)
        and getattr(value, "__module__", None) == module.__name__
        and not name.startswith("_")
    ]


class Inputs:
    """One task's inputs after another, out of a file. Has a length; arrays are not copied."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            click.ClickException: It cannot be read as inputs.
        """
        self.path = path
        self.are_pairs = False
        """Whether a step program takes them: `{"state": ..., "inputs": ...}` becomes a pair."""
        self._lines: list[str] | None = None
        self._arrays: dict[str, NDArray[Any]] = {}
        if path.suffix not in _FORMATS:
            raise click.UsageError(f"{path}: inputs are {', '.join(_FORMATS)}")
        try:
            if path.suffix == ".jsonl":
                text = path.read_text(encoding="utf-8")
                self._lines = [line for line in text.splitlines() if line.strip()]
            elif path.suffix == ".npy":
                with path.open("rb") as stream:
                    self._arrays = {"value": np.load(stream, allow_pickle=False)}
            else:
                self._arrays = _load_archive(path)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise click.ClickException(f"{path} cannot be read as inputs: {_why(path, error)}") from error
        if self._lines is None:
            self._check_axes()

    def _check_axes(self) -> None:
        lengths = {name: array.shape[0] if array.ndim else None for name, array in self._arrays.items()}
        if not lengths or None in lengths.values() or len(set(lengths.values())) != 1:
            raise click.ClickException(
                f"{self.path}: the first axis of every array counts the tasks, so all need the same length; "
                f"found {lengths}"
            )

    def __len__(self) -> int:
        if self._lines is not None:
            return len(self._lines)
        return int(next(iter(self._arrays.values())).shape[0])

    def __iter__(self) -> Iterator[Any]:
        if self._lines is not None:
            for number, line in enumerate(self._lines, 1):
                where = f"{self.path}, line {number}"
                item = _of_json(line, where)
                pair = as_pair(item) if self.are_pairs else None
                if self.are_pairs and pair is None:
                    raise click.ClickException(f'{where}: not {{"state": ..., "inputs": ...}}')
                yield item if pair is None else pair
            return
        for index in range(len(self)):
            row = {name: array[index] for name, array in self._arrays.items()}
            is_bare = len(row) == 1 and row.keys() <= _BARE_NAMES
            yield next(iter(row.values())) if is_bare else row

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file: whether it is still what a job was made from."""
        return sha256_hex(self.path.read_bytes())


def _of_json(line: str, where: str) -> Any:
    try:
        return _arrays_of(json.loads(line))
    except (ValueError, TypeError) as error:
        raise click.ClickException(f"{where}: {error}") from error


def _arrays_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _arrays_of(item) for name, item in value.items()}
    if isinstance(value, bool | int | float):
        return value  # no width of its own; it takes the program's
    array = np.asarray(value)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind == "i":
        return array.astype(np.int32)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    raise ValueError("not numbers, nested lists of numbers, or objects of them")


def as_pair(item: Any) -> tuple[Any, Any] | None:
    """Return `(state, inputs)` of a step program's task, or None when the item is none."""
    if isinstance(item, tuple) and len(item) == 2:
        return item
    if isinstance(item, dict) and "state" in item and item.keys() <= {"state", "inputs"}:
        return item["state"], item.get("inputs")
    return None


def read_constants(path: Path | None, source: FunctionSource) -> Any:
    """Return the constants: out of a .npz file, or those that stand beside the function."""
    if path is None:
        return source.constants
    try:
        return _load_archive(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise click.ClickException(f"{path} cannot be read as constants: {_why(path, error)}") from error


def _load_archive(path: Path) -> dict[str, NDArray[Any]]:
    # Opened here: NumPy leaves the file open when it is no archive.
    with path.open("rb") as stream:
        loaded = np.load(stream, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("it is a single array: name it .npy")  # noqa: TRY004 - the file is wrong, not a type
        with loaded as archive:
            return {name: archive[name] for name in archive.files}


def _why(path: Path, error: Exception) -> str:
    """Say what is wrong with a file; NumPy takes all that it does not know for a pickle."""
    if "pickle" in str(error):
        return f"it holds Python objects, or is no {path.suffix} file at all"
    return str(error)


class ResultSink:
    """Writes results as they come: JSON lines at once, .npz when all are there."""

    def __init__(self, path: Path | None) -> None:
        """Write to a file, or JSON lines to standard output.

        Raises:
            click.UsageError: The file's name says no known format, or its folder is not there.
        """
        if path is not None and path.suffix not in (".npz", ".jsonl"):
            raise click.UsageError(f"{path}: results are .npz or .jsonl")
        if path is not None and not path.parent.is_dir():
            raise click.UsageError(f"{path}: there is no folder {str(path.parent)!r} to write results to")
        self._path = path
        self._stream: IO[str] | None = None
        self._columns: dict[str, list[Any]] = {}
        self.count = 0
        self.failed_count = 0

    def __enter__(self) -> Self:
        if self._path is None:
            self._stream = sys.stdout
        elif self._path.suffix == ".jsonl":
            self._stream = self._path.open("w", encoding="utf-8")
        return self

    def add(self, result: Result) -> None:
        """Take one result."""
        self.count += 1
        self.failed_count += not result.ok
        if self._stream is not None:
            self._stream.write(json.dumps(_json_of(result), allow_nan=False) + "\n")
        elif result.ok:
            named = trees.flatten(result.value, trees.tree_of(result.value))
            for name, array in {
                **named,
                "task_index": result.index,
                "task_cost_micros": result.cost_micros,
            }.items():
                self._columns.setdefault(name, []).append(array)

    def __exit__(self, *_: object) -> None:
        if self._path is None:
            sys.stdout.flush()
        elif self._stream is not None:
            self._stream.close()
        elif self._columns:
            # Whatever ended the run, what came so far is written, whole or not at all.
            scratch = self._path.with_suffix(".partial.npz")
            stacked: dict[str, Any] = {name: np.stack(column) for name, column in self._columns.items()}
            np.savez(scratch, **stacked)
            scratch.replace(self._path)


def _json_of(result: Result) -> dict[str, Any]:
    content: dict[str, Any] = {
        "index": result.index,
        "cost_micros": result.cost_micros,
        "attempts": result.attempts,
    }
    if result.error is not None:
        return content | {"error": {"code": result.error.code.value, "message": result.error.detail}}
    return content | {"value": plain(result.value)}


def plain(value: Any) -> Any:
    """Return a value as JSON can say it: arrays as nested lists, NaN and infinities as strings."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind == "c":
        return plain(np.stack([array.real, array.imag], axis=-1))
    if array.dtype.kind == "V":
        array = array.astype(np.float64)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return _spelled(array.tolist())
    return array.tolist()


def _spelled(value: Any) -> Any:
    """Write what JSON has no number for as strings: "NaN", "Infinity", "-Infinity"."""
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
