"""Files of receipts that prove themselves: a JSON line each, behind one with root document and tree head.

    {"format": "chargepool-receipts/1", "pool_id": ..., "roots": [...], "tree_head": ...}
    {"job_id": ..., "task_index": ..., "gross_micros": ..., "proven_receipt": ..., "log_proof": ...}

Bytes are in base64. A file without the first line (an older one) holds receipts only. What is in a file is
believed by its signatures alone, and by a root that this machine knows, or whose fingerprint its reader has.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from chargepool._errors import ConfigError, ProofInvalid, from_pool_error
from chargepool._log import LogMemory
from chargepool._receipts import Receipt
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.log_audit import AuditReport, KeptHead, KeptReceipt, audit
from pool_protocol.roots import Role, TrustedRoot, open_first_root, open_root_chain
from pool_protocol.transparency import TreeHead, check_successor, open_tree_head
from pool_protocol.v1 import common_pb2

FORMAT = "chargepool-receipts/1"
_WRITTEN_BY = "Files of receipts are written by `chargepool receipts save`."


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFile:
    """What a file holds; nothing of it is verified."""

    receipts: tuple[KeptReceipt, ...]
    pool_id: str = ""
    """Empty for a file without a first line."""
    roots: tuple[bytes, ...] = ()
    """Serialized roots, oldest first."""
    heads: tuple[KeptHead, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came of a file, and whose word it was."""

    report: AuditReport
    root: TrustedRoot
    known_since_us: int
    """Since when this machine knows the root's pool; 0 when the root came with the file."""


def write_file(
    path: Path, receipts: Sequence[Receipt], kept: Sequence[KeptReceipt], *, pool_id: str,
    roots: Sequence[bytes], head: TreeHead | None,
) -> None:  # fmt: skip
    """Write receipts with their proofs.

    Raises:
        ConfigError: The file cannot be written.
    """
    first = {
        "format": FORMAT,
        "pool_id": pool_id,
        "roots": [_text(root) for root in roots],
        "tree_head": "" if head is None else _text(head.envelope),
    }
    lines: list[dict[str, Any]] = [first]
    lines += [
        {
            "job_id": receipt.job_id,
            "task_index": receipt.task_index,
            "gross_micros": receipt.gross_micros,
            "proven_receipt": _text(one.proven),
            "log_proof": _text(one.proof),
            "tree_size": one.tree_size,
        }
        for receipt, one in zip(receipts, kept, strict=True)
    ]
    try:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}", next_step="Name another file."
        ) from error


def read_file(path: Path) -> ReceiptFile:
    """Read a file.

    Raises:
        ConfigError: It cannot be read.
        ProofInvalid: A line is not what it should be; it says which.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}", next_step="Name the file of receipts."
        ) from error
    receipts: list[KeptReceipt] = []
    first: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
            if number == 1 and "format" in content:
                first = content
                continue
            receipts.append(
                KeptReceipt(
                    proven=_bytes(content["proven_receipt"]),
                    proof=_bytes(content.get("log_proof", "")),
                    tree_size=int(content.get("tree_size", 0)),
                )
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProofInvalid(
                f"{path}, line {number} is not a receipt.",
                code=ErrorCode.RECEIPT_INVALID,
                next_step=_WRITTEN_BY,
            ) from error
    return _with_first(path, first, receipts) if first else ReceiptFile(receipts=tuple(receipts))


def _with_first(path: Path, first: dict[str, Any], receipts: list[KeptReceipt]) -> ReceiptFile:
    try:
        if first["format"] != FORMAT:
            raise ProofInvalid(
                f"{path} has the format {str(first['format'])[:60]!r}, which is not known here.",
                code=ErrorCode.RECEIPT_INVALID,
                next_step="Update chargepool, or save the receipts again.",
            )
        head = _bytes(first["tree_head"])
        return ReceiptFile(
            receipts=tuple(receipts),
            pool_id=str(first["pool_id"]),
            roots=tuple(_bytes(root) for root in first["roots"]),
            heads=(KeptHead(envelope=head, path=()),) if head else (),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ProofInvalid(
            f"{path}, line 1 does not say whose receipts these are.",
            code=ErrorCode.RECEIPT_INVALID,
            next_step=_WRITTEN_BY,
        ) from error


def check_file(file: ReceiptFile, memory: LogMemory, *, fingerprint: str, now_us: int) -> Checked:
    """Check a file that has a first line, offline.

    Args:
        file: What was read.
        memory: What this machine remembers of the file's pool.
        fingerprint: Of the root that is to be believed, in full or its first 16 digits; empty when there is
            none from elsewhere.
        now_us: Microseconds since the epoch.

    Raises:
        ProofInvalid: The root is not to be believed: it does not continue the one this machine knows, or has
            another fingerprint.
    """
    known = memory.root()
    try:
        root = _root_of(file, None if known is None else known[0])
    except PoolError as error:
        raise from_pool_error(error) from error
    if fingerprint and not (len(fingerprint) >= 16 and root.fingerprint.startswith(fingerprint)):
        raise ProofInvalid(
            f"The root has the fingerprint {root.fingerprint}, not {fingerprint[:64]}.",
            code=ErrorCode.ROOT_INVALID,
            next_step="Get file and fingerprint again, each from someone you trust.",
        )
    _check_memory(file, memory, root, now_us=now_us)
    report = audit(
        file.receipts,
        file.heads,
        keys=root.keys_for(Role.RECEIPT),
        pool_id=root.document.pool_id,
        now_us=now_us,
    )
    return Checked(report=report, root=root, known_since_us=0 if known is None else known[1])


def _check_memory(file: ReceiptFile, memory: LogMemory, root: TrustedRoot, *, now_us: int) -> None:
    """A head of one size with another root than the one that this machine trusts is a fork of the log."""
    kept = memory.head()
    if not kept or not file.heads:
        return
    keys, pool_id = root.keys_for(Role.RECEIPT), root.document.pool_id
    try:
        own, other = (
            open_tree_head(common_pb2.Envelope.FromString(one), keys=keys, now_us=now_us, pool_id=pool_id)
            for one in (kept, file.heads[0].envelope)
        )
    except (PoolError, DecodeError):
        return  # the audit says what is wrong with the file's
    if own.tree_size == other.tree_size:
        try:
            check_successor(own, other, ())
        except PoolError as error:
            raise from_pool_error(error) from error


def _root_of(file: ReceiptFile, known: TrustedRoot | None) -> TrustedRoot:
    """Return the newer of the known root and the file's, which must continue each other."""
    if not file.roots:
        raise PoolError(ErrorCode.ROOT_INVALID, "the file holds no root document")
    if known is None:
        # Long after: whether the root has expired says nothing about what was signed under it.
        root = open_first_root(file.roots[-1], now_us=0)
        if root.document.pool_id != file.pool_id:
            raise PoolError(ErrorCode.ROOT_INVALID, f"the file's root is of {root.document.pool_id!r}")
        return root
    newest = open_first_root(file.roots[-1], now_us=0)
    if newest.document.version <= known.document.version:
        return known
    if known.root_bytes not in file.roots:
        raise PoolError(ErrorCode.ROOT_INVALID, "the file's root does not continue the one known here")
    since = file.roots[file.roots.index(known.root_bytes) + 1 :]
    return open_root_chain(since, known, now_us=0)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
