"""Between the wire and disputes: questions about committed states, and their answers. Checks form only."""

from collections.abc import Sequence

from pool_protocol import ids, limits
from pool_protocol.digests import DIGEST_BYTES
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb2
from pool_server.app.unit_answers import UNIT_ANSWERS_MAX, UnitAnswerReport
from pool_server.core.effects import UnitQuestion
from pool_server.rpc.convert_work import fit_to_show, invalid, tensor_ref

#: A path in a tree of so many units has no more hashes.
_PATH_MAX = limits.UNITS_PER_TASK_MAX.bit_length()
_REASON_CHARACTERS_MAX = 60


def unit_queries(questions: Sequence[UnitQuestion]) -> list[fleet_pb2.UnitQuery]:
    """Write questions."""
    return [
        fleet_pb2.UnitQuery(
            query_id=question.query_id,
            attempt_id=question.attempt_id,
            unit_index=question.unit_index,
            want_state=question.want_state,
            expires_at_us=question.expires_at_us,
        )
        for question in questions
    ]


def unit_answers(answers: Sequence[fleet_pb2.UnitAnswer]) -> list[UnitAnswerReport]:
    """Read answers.

    Raises:
        PoolError: INVALID_ARGUMENT, TENSORS_TOO_LARGE, BLOB_TOO_LARGE.
    """
    if len(answers) > UNIT_ANSWERS_MAX:
        raise invalid("unit_answers", f"more than {UNIT_ANSWERS_MAX}")
    return [_unit_answer(answer) for answer in answers]


def _unit_answer(answer: fleet_pb2.UnitAnswer) -> UnitAnswerReport:
    if not 1 <= answer.query_id <= ids.ROW_ID_MAX:
        raise invalid("query_id", f"{answer.query_id} is not a question's id")
    if len(answer.digest) not in {0, DIGEST_BYTES}:
        raise invalid("digest", "a digest has 32 bytes")
    if len(answer.inclusion_path) > _PATH_MAX:
        raise invalid("inclusion_path", f"more than {_PATH_MAX} hashes")
    return UnitAnswerReport(
        query_id=answer.query_id,
        digest=answer.digest,
        inclusion_path=tuple(answer.inclusion_path),
        state=tensor_ref(answer.state, field="state"),
        reason=fit_to_show(answer.reason, characters_max=_REASON_CHARACTERS_MAX),
    )
