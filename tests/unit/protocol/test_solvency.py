"""Statements of solvency, and the tree of what is owed: every balance is counted, nothing else proves so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.amounts import amount
from pool_protocol.envelope import ANY_AUDIENCE, EnvelopeHeader, PayloadType, seal_envelope
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import SigningKey, TrustedKeys
from pool_protocol.liabilities import (
    EMPTY_LIABILITY_ROOT,
    LiabilityProof,
    LiabilityTree,
    SumNode,
    liability_leaf,
    salt_of,
    verify_liability,
)
from pool_protocol.solvency import Statement, open_solvency, solvency_sentence
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import log_service_pb2 as pb
from tests.support.clock import START_US
from tests.support.ids import SeededIds

SECRET = bytes(range(32))
KEY = SigningKey.generate(SeededIds(1))


def tree_of(balances: dict[str, int]) -> LiabilityTree:
    return LiabilityTree(
        [liability_leaf(name, balance, salt_of(SECRET, name)) for name, balance in balances.items()]
    )


def proof_of(tree: LiabilityTree, name: str, balance: int) -> LiabilityProof:
    return tree.prove(name, balance, salt_of(SECRET, name))


def check(proof: LiabilityProof, tree: LiabilityTree, *, total: int | None = None) -> int:
    root = tree.root
    return verify_liability(
        proof,
        root=root.hash,
        total_micros=root.sum_micros if total is None else total,
        leaf_count=tree.leaf_count,
    )


def refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except PoolError as error:
        return error.code is ErrorCode.PROOF_INVALID
    return False


names = st.dictionaries(
    st.text("abcdef:_", min_size=1, max_size=12), st.integers(1, 10**12), min_size=1, max_size=40
)


@given(names)
def test_every_balance_is_counted_and_the_root_is_their_sum(balances: dict[str, int]) -> None:
    tree = tree_of(balances)
    assert (tree.root.sum_micros, tree.leaf_count) == (sum(balances.values()), len(balances))
    for name, balance in balances.items():
        assert check(proof_of(tree, name, balance), tree) == balance


@given(st.dictionaries(st.sampled_from("abcdefghijk"), st.integers(1, 10**12), min_size=1), st.data())
def test_a_proof_proves_nothing_else(balances: dict[str, int], data: st.DataObject) -> None:
    tree = tree_of(balances)
    name = data.draw(st.sampled_from(sorted(balances)))
    good = proof_of(tree, name, balances[name])
    total = tree.root.sum_micros
    assert refused(lambda: check(good, tree, total=total - 1))
    assert refused(lambda: check(good, tree, total=total + 1))
    for bad in (
        replace(good, balance_micros=good.balance_micros + 1),
        replace(good, balance_micros=0),
        replace(good, balance_micros=-1),
        replace(good, account=good.account + "x"),
        replace(good, salt=bytes(32)),
        replace(good, salt=good.salt[:31]),
        replace(good, leaf_index=good.leaf_index + 1),
        replace(good, leaf_index=-1),
        replace(good, path=(*good.path, SumNode(bytes(32), 0))),
    ):
        assert refused(lambda: check(bad, tree))  # noqa: B023 - called at once
    for at, node in enumerate(good.path):
        for other in (
            SumNode(node.hash, node.sum_micros - 1),
            SumNode(node.hash, -node.sum_micros),
            SumNode(bytes(32), node.sum_micros),
            SumNode(node.hash[:31], node.sum_micros),
        ):
            bad = replace(good, path=(*good.path[:at], other, *good.path[at + 1 :]))
            assert refused(lambda: check(bad, tree))  # noqa: B023 - called at once
        bad = replace(good, path=(*good.path[:at], *good.path[at + 1 :]))
        assert refused(lambda: check(bad, tree))  # noqa: B023 - called at once


def test_an_account_that_is_left_out_finds_no_proof() -> None:
    balances = {f"owner:{number}:held": 100 + number for number in range(9)}
    everyone = tree_of(balances)
    left_out = balances.pop("owner:4:held")
    fewer = tree_of(balances)
    with pytest.raises(PoolError) as raised:
        proof_of(fewer, "owner:4:held", left_out)
    assert raised.value.code is ErrorCode.NOT_FOUND
    assert refused(lambda: check(proof_of(everyone, "owner:4:held", left_out), fewer))


def test_a_negative_balance_cannot_hide_what_is_owed() -> None:
    """The classic forgery: an account that the pool itself owns, with less than nothing in it."""
    tree = tree_of({"owner:a:held": 1_000, "owner:b:held": 500, "the pool's own": -900})
    assert refused(lambda: check(proof_of(tree, "owner:a:held", 1_000), tree))


def test_neighbours_change_from_one_statement_to_the_next_and_names_cannot_be_tried_out() -> None:
    name = "owner:a:held"
    leaves = {liability_leaf(name, 5, salt_of(bytes([number]) * 32, name)).hash for number in range(20)}
    assert len(leaves) == 20


def test_a_pool_that_owes_nothing_has_a_root_too() -> None:
    assert LiabilityTree([]).root == SumNode(EMPTY_LIABILITY_ROOT, 0)


# --- the signed statement ---------------------------------------------------------------------------------


def liability(kind: str, amount_micros: int) -> pb.Liability:
    return pb.Liability(kind=kind, amount_micros=amount_micros)


def body(**changes: Any) -> pb.SolvencyBody:
    facts: dict[str, Any] = {
        "version": 1,
        "statement_id": 3,
        "currency": "EUR",
        "made_at_us": START_US,
        "ledger_sequence": 7,
        "ledger_hash": bytes(32),
        "liabilities": [
            pb.Liability(kind="owners_held", amount_micros=60),
            pb.Liability(kind="owners_available", amount_micros=40),
        ],
        "liabilities_micros": 100,
        "liability_count": 2,
        "liability_root": bytes(32),
        "bank_micros": 100,
        "bank_as_of": "2026-01-01",
        "books_micros": 110,
        "tree_size": 5,
        "tree_root": bytes(32),
    }
    return pb.SolvencyBody(**{**facts, **changes})


def sealed(content: bytes, *, key: SigningKey = KEY, issued_at_us: int = START_US) -> common_pb2.Envelope:
    header = EnvelopeHeader(
        issuer="pool_a",
        audience=ANY_AUDIENCE,
        nonce=bytes(16),
        sequence=3,
        issued_at_us=issued_at_us,
        expires_at_us=0,
    )
    return seal_envelope(content, payload_type=PayloadType.SOLVENCY, header=header, key=key)


def opened(envelope: common_pb2.Envelope, *, pool_id: str = "pool_a") -> Statement:
    keys = TrustedKeys([KEY.verifying_key])
    return open_solvency(envelope, keys=keys, now_us=START_US, pool_id=pool_id)


def test_a_statement_says_what_was_signed() -> None:
    statement = opened(sealed(body().SerializeToString()))
    assert statement.owed == (("owners_held", 60), ("owners_available", 40))
    assert (statement.solvent, statement.surplus_micros) == (True, 0)
    assert statement.sentence(amount).startswith("Solvent")
    short = opened(sealed(body(bank_micros=-1_000_000).SerializeToString()))
    assert (short.solvent, short.surplus_micros) == (False, -1_000_100)
    assert short.sentence(amount).startswith("INSOLVENT by 1.000100 EUR.")


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"statement_id": 0},
        {"currency": ""},
        {"liabilities_micros": 99},
        {
            "liabilities": [
                pb.Liability(kind="a", amount_micros=-1),
                pb.Liability(kind="b", amount_micros=101),
            ]
        },
        {"liabilities": [liability("a", 50)] * 2},
        {"liability_root": b"short"},
        {"ledger_hash": b""},
        {"tree_root": b""},
        {"bank_as_of": "yesterday"},
        {"bank_as_of": "2026-1-1"},
        {"made_at_us": START_US - 1},
    ],
)
def test_a_statement_that_does_not_add_up_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PoolError) as raised:
        opened(sealed(body(**changes).SerializeToString()))
    assert raised.value.code is ErrorCode.SOLVENCY_INVALID


def test_a_statement_is_believed_by_its_signature_alone() -> None:
    content = body().SerializeToString()

    def code_of(call: Callable[[], object]) -> ErrorCode:
        with pytest.raises(PoolError) as raised:
            call()
        return raised.value.code

    assert (
        code_of(lambda: opened(sealed(content, key=SigningKey.generate(SeededIds(2)))))
        is ErrorCode.KEY_UNKNOWN
    )
    assert code_of(lambda: opened(sealed(content), pool_id="pool_b")) is ErrorCode.ENVELOPE_WRONG_AUDIENCE
    assert code_of(lambda: opened(sealed(b"\xff"))) is ErrorCode.SOLVENCY_INVALID
    tomorrow = START_US + 86_400_000_000
    assert code_of(lambda: opened(sealed(content, issued_at_us=tomorrow))) is ErrorCode.ENVELOPE_NOT_YET_VALID


def test_the_sentence_names_both_figures_and_the_day() -> None:
    sentence = solvency_sentence(
        amount,
        bank_micros=90_000_000,
        bank_as_of="2026-11-25",
        liabilities_micros=100_000_000,
        currency="EUR",
    )
    assert sentence == (
        "INSOLVENT by 10.000000 EUR. The bank held 90.000000 EUR on 2026-11-25; 100.000000 EUR are owed."
    )
