"""How a client follows the pool's log: what it asks, in which order, and what it makes of the answers.

Written as generators that yield requests and are sent the answers, so that the car (async), the SDK and the
dashboard (sync) share one implementation and tests can answer what no honest pool would. Nothing is kept
here: who calls keeps the head that comes back, and on a `LogConflictError` both heads, which are the proof.

    follow_head     the pool's newest head, checked against the last one that was trusted
    prove_places    proofs of kept receipts under a head
    logged_receipts a vehicle's receipts in the log, each with its proofs
    name_fault      after a conflict: which receipt was dropped, altered or moved, if one of ours was
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import TrustedKeys
from pool_protocol.limits import LOG_PROOFS_MAX
from pool_protocol.log_audit import KeptReceipt
from pool_protocol.transparency import TreeHead, check_successor, open_tree_head, verify_logged
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import log_service_pb2 as pb

T = TypeVar("T")
Exchange = Generator[Message, Any, T]
"""Yields requests of LogService, is sent their answers or thrown a PoolError, and returns what came of it."""


class LogConflictError(PoolError):
    """The pool's log contradicts what it signed before. Both signed heads are the proof of it."""

    def __init__(
        self, code: ErrorCode, detail: str = "", *, trusted: bytes = b"", offered: bytes = b"", **more: Any
    ) -> None:
        """Make an error.

        Args:
            code: One of the codes that begin with LOG_.
            detail: The particulars.
            trusted: The serialized envelope of the head that was trusted.
            offered: The serialized envelope of the head that was offered; empty when there was none.
            more: As for `PoolError`.
        """
        super().__init__(code, detail, **more)
        self.trusted = trusted
        self.offered = offered


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A head that continues the one before."""

    head: TreeHead
    path: tuple[bytes, ...]
    """The proof of that; empty for a first head and for one of the same size."""


def run(exchange: Exchange[T], call: Callable[[str, Message], Any]) -> T:
    """Hold an exchange over a blocking call.

    Args:
        exchange: One of the generators of this module.
        call: Makes a call of LogService by name.

    Raises:
        PoolError: what the call raises and the exchange does not expect; what the exchange finds.
    """
    try:
        request = next(exchange)
        while True:
            try:
                answer = call(method_of(request), request)
            except PoolError as error:
                request = exchange.throw(error)
            else:
                request = exchange.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result


async def run_async(exchange: Exchange[T], call: Callable[[str, Message], Awaitable[Any]]) -> T:
    """Hold an exchange over an awaited call; else as `run`."""
    try:
        request = next(exchange)
        while True:
            try:
                answer = await call(method_of(request), request)
            except PoolError as error:
                request = exchange.throw(error)
            else:
                request = exchange.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result


def method_of(request: Message) -> str:
    """Return the call that a request belongs to."""
    return type(request).__name__.removesuffix("Request")


def follow_head(
    trusted: TreeHead | None, *, keys: TrustedKeys, pool_id: str, now_us: int
) -> Exchange[Followed | None]:
    """Ask for the newest head and check that it continues the trusted one; None where no head was signed yet.

    Raises:
        LogConflictError: LOG_FORKED, LOG_ROLLED_BACK, LOG_BACK_DATED.
        PoolError: what `open_tree_head` raises: a head that the pool did not sign is no head.
    """
    answer: pb.GetTreeHeadResponse = yield pb.GetTreeHeadRequest()
    if not answer.HasField("head"):
        if trusted is None:
            return None
        raise LogConflictError(
            ErrorCode.LOG_ROLLED_BACK,
            f"the pool has no tree head, after one of size {trusted.tree_size}",
            trusted=trusted.envelope,
        )
    head = open_tree_head(answer.head, keys=keys, now_us=now_us, pool_id=pool_id)
    if trusted is None:
        return Followed(head=head, path=())
    return (yield from continue_from(trusted, head))


def continue_from(trusted: TreeHead, head: TreeHead) -> Exchange[Followed]:
    """Check that a head, from wherever it came, continues a trusted one; ask for a proof where one is needed.

    Raises:
        LogConflictError: as `follow_head`. A pool that gives no proof cannot give one.
    """
    path: tuple[bytes, ...] = ()
    if head.tree_size > trusted.tree_size:
        try:
            answer: pb.GetConsistencyProofResponse = yield pb.GetConsistencyProofRequest(
                first_size=trusted.tree_size, second_size=head.tree_size
            )
        except PoolError as error:
            if error.retryable:
                raise
        else:
            path = tuple(answer.path)
    try:
        check_successor(trusted, head, path)
    except PoolError as error:
        raise LogConflictError(
            error.code, error.detail, trusted=trusted.envelope, offered=head.envelope
        ) from error
    return Followed(head=head, path=path)


def prove_places(receipts: Sequence[bytes], head: TreeHead) -> Exchange[list[pb.LogProof | None]]:
    """Ask for the places of receipts under a head, and check them; None for one that the log does not hold.

    Args:
        receipts: Serialized ProvenReceipts, whose signatures were checked.
        head: A head that was checked.

    Raises:
        PoolError: LOG_RECEIPT_ALTERED; PROOF_INVALID for a proof of anything else.
    """
    proofs: list[pb.LogProof | None] = []
    for start in range(0, len(receipts), LOG_PROOFS_MAX):
        part = [_parse(one) for one in receipts[start : start + LOG_PROOFS_MAX]]
        answers = yield from _proofs_of(part, head)
        for proven, proof in zip(part, answers, strict=True):
            if proof is not None:
                verify_logged(proven.receipt, proof, head)
            proofs.append(proof)
    return proofs


def _proofs_of(
    part: Sequence[common_pb2.ProvenReceipt], head: TreeHead
) -> Exchange[Sequence[pb.LogProof | None]]:
    """Ask for many at once; when the pool does not know one of them, for one after the other."""
    places = [_place_of(proven) for proven in part]
    try:
        answer: pb.GetInclusionProofsResponse = yield pb.GetInclusionProofsRequest(
            tree_size=head.tree_size, places=places
        )
    except PoolError as error:
        if error.code is not ErrorCode.NOT_FOUND:
            raise
        if len(part) == 1:
            return [None]
        middle = len(part) // 2
        left = yield from _proofs_of(part[:middle], head)
        right = yield from _proofs_of(part[middle:], head)
        return [*left, *right]
    if len(answer.proofs) != len(part):
        raise PoolError(ErrorCode.PROOF_INVALID, f"{len(answer.proofs)} proofs came for {len(part)} receipts")
    return answer.proofs


def logged_receipts(
    head: TreeHead, *, from_log_index: int, limit: int
) -> Exchange[tuple[list[KeptReceipt], bool]]:
    """Ask for the calling vehicle's receipts under a head, in order; their places are checked.

    What is in them is checked by `log_audit.audit`, as everything that is kept.

    Returns:
        The receipts, and whether there are more.

    Raises:
        PoolError: LOG_REORDERED when they do not come in order; LOG_RECEIPT_ALTERED, PROOF_INVALID.
    """
    answer: pb.ListLoggedReceiptsResponse = yield pb.ListLoggedReceiptsRequest(
        tree_size=head.tree_size, from_log_index=from_log_index, limit=limit
    )
    kept: list[KeptReceipt] = []
    least = from_log_index
    for logged in answer.receipts:
        log_index = verify_logged(logged.proven.receipt, logged.proof, head)
        if log_index < least:
            raise PoolError(
                ErrorCode.LOG_REORDERED, f"a receipt stands at {log_index}, {least} or more was asked for"
            )
        least = log_index + 1
        kept.append(
            KeptReceipt(
                proven=logged.proven.SerializeToString(),
                proof=logged.proof.SerializeToString(),
                tree_size=head.tree_size,
            )
        )
    return kept, answer.has_more


def name_fault(kept: Sequence[KeptReceipt], offered: TreeHead) -> Exchange[PoolError | None]:
    """Look for what a rewritten log did to our own receipts; None when it left them alone.

    Args:
        kept: Receipts that were in the log before, with their proofs.
        offered: The head that contradicts; its signature was checked.
    """
    for one in kept:
        if not one.proof:
            continue
        before = pb.LogProof.FromString(one.proof)
        try:
            [proof] = yield from prove_places([one.proven], offered)
        except PoolError as error:
            if error.code is ErrorCode.LOG_RECEIPT_ALTERED:
                return _moved(kept, before, error) or error
            if error.code is ErrorCode.PROOF_INVALID:
                return error
            if error.retryable:
                raise
            proof = None  # whatever the reason: it does not prove it
        if proof is None:
            return PoolError(
                ErrorCode.LOG_RECEIPT_DROPPED,
                f"the receipt at {before.log_index} of the log is not in the tree of {offered.tree_size}",
            )
        if proof.log_index != before.log_index:
            return PoolError(
                ErrorCode.LOG_REORDERED,
                f"the receipt at {before.log_index} of the log stands at {proof.log_index} now",
            )
    return None


def _moved(kept: Sequence[KeptReceipt], before: pb.LogProof, altered: PoolError) -> PoolError | None:
    """A place that holds another of our own receipts was not altered: the two were exchanged."""
    own = {pb.LogProof.FromString(one.proof).leaf_hash.hex() for one in kept if one.proof}
    if altered.context.get("leaf_hash") not in own:
        return None
    return PoolError(
        ErrorCode.LOG_REORDERED, f"another receipt of ours stands at {before.log_index} of the log now"
    )


def _parse(proven: bytes) -> common_pb2.ProvenReceipt:
    try:
        return common_pb2.ProvenReceipt.FromString(proven)
    except DecodeError as error:
        raise PoolError(ErrorCode.RECEIPT_INVALID, "a receipt cannot be parsed") from error


def _place_of(proven: common_pb2.ProvenReceipt) -> pb.ReceiptPlace:
    try:
        body = common_pb2.ReceiptBatchBody.FromString(proven.batch.body)
    except DecodeError as error:
        raise PoolError(ErrorCode.RECEIPT_INVALID, "a receipt's batch cannot be parsed") from error
    return pb.ReceiptPlace(batch_id=body.batch_id, leaf_index=proven.leaf_index)
