"""Writes the tables of `docs/reference` that repeat what the code says, between their markers.

Usage: `python scripts/generate_reference.py [--check]`. With `--check` nothing is written and a stale page is
a failure, which is how the tests hold the pages to the code. The prose around the tables is written by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from car_agent.core.lifecycle import TRANSITIONS as PHASES
from pool_protocol.errors import CATALOGUE
from pool_server.core.fleet import VEHICLE_LIFECYCLE
from pool_server.core.jobs import ATTEMPT_LIFECYCLE, JOB_LIFECYCLE, LEASE_LIFECYCLE, TASK_LIFECYCLE
from pool_server.core.lifecycle import Lifecycle
from pool_server.core.payouts.model import TRANSITIONS as PAYOUT_TRANSITIONS
from pool_server.core.payouts.model import PayoutState
from pool_server.core.payouts.row_state import PAYOUT_ROW_LIFECYCLE
from pool_server.core.verification.dispute import DISPUTE_LIFECYCLE
from pool_server.core.verification.prefix_claim import PREFIX_LIFECYCLE
from pool_server.core.verification.unit_check import UNIT_CHECK_LIFECYCLE
from pool_server.rpc.policy import POLICY

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
BLOCK = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def code(word: str) -> str:
    """The word as code."""
    return f"`{word}`"


def lifecycle(life: Lifecycle[Any]) -> str:
    """Every legal step with its cause, and where it ends."""
    rows = [(code(source), code(target), cause) for (source, target), cause in life.transitions.items()]
    ends = ", ".join(code(state) for state in life.states() if state in life.terminal())
    return table(("from", "to", "because"), rows) + f"\nStarts as {code(life.initial)}. Final: {ends}.\n"


def phases() -> str:
    """Which phase of the agent may follow which."""
    rows = [
        (code(source), ", ".join(code(target) for target in type(source) if target in targets - {source}))
        for source, targets in PHASES.items()
    ]
    return table(("phase", "may be followed by"), rows)


def payouts() -> str:
    """The steps of a payout run."""
    declared = tuple(PayoutState)
    order = sorted(PAYOUT_TRANSITIONS, key=lambda step: [declared.index(state) for state in step])
    return table(("from", "to"), [(code(source), code(target)) for source, target in order])


def policy() -> str:
    """Who may call what, and on which listener."""
    rows = []
    for method, rule in POLICY.items():
        service, call = method.strip("/").split("/")
        listeners = ", ".join(sorted(listener.value for listener in rule.listeners))
        rows.append((code(service.rsplit(".", 1)[-1]), code(call), rule.who.value, listeners))
    return table(("service", "call", "who", "listener"), rows)


def catalogue() -> str:
    """Every code with its status and what it tells the caller."""
    rows = [
        (
            code(name),
            code(entry.grpc_code),
            "yes" if entry.retryable else "no",
            f"{entry.public} {entry.next_step}",
        )
        for name, entry in CATALOGUE.items()
    ]
    return table(("code", "gRPC status", "again?", "what it says"), rows)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "job": lambda: lifecycle(JOB_LIFECYCLE),
    "task": lambda: lifecycle(TASK_LIFECYCLE),
    "attempt": lambda: lifecycle(ATTEMPT_LIFECYCLE),
    "lease": lambda: lifecycle(LEASE_LIFECYCLE),
    "dispute": lambda: lifecycle(DISPUTE_LIFECYCLE),
    "prefix": lambda: lifecycle(PREFIX_LIFECYCLE),
    "unit-check": lambda: lifecycle(UNIT_CHECK_LIFECYCLE),
    "vehicle": lambda: lifecycle(VEHICLE_LIFECYCLE),
    "payout": payouts,
    "payout-row": lambda: lifecycle(PAYOUT_ROW_LIFECYCLE),
    "phases": phases,
    "policy": policy,
    "catalogue": catalogue,
}


def rewritten(text: str) -> str:
    """The page with every generated block made anew."""

    def block(match: re.Match[str]) -> str:
        return f"{match.group(1)}\n{BLOCKS[match.group('name')]()}\n{match.group(3)}"

    return BLOCK.sub(block, text)


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail on a stale page, write nothing")
    check = parser.parse_args().check
    stale = []
    for page in sorted(REFERENCE.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if rewritten(text) != text:
            stale.append(page.name)
            if not check:
                page.write_text(rewritten(text), encoding="utf-8")
    print(f"{'stale' if check else 'rewritten'}: {', '.join(stale) or 'none'}")
    if check and stale:
        sys.exit("run `make reference` and commit the result")


if __name__ == "__main__":
    main()
