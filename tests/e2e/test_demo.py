"""The demo as a user runs it: real processes, real signals, one last line."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

DEMO = [sys.executable, "-m", "chargepool.demo"]
LIMIT_S = 400


def environment_of(marker: str) -> dict[str, str]:
    """The environment with a marker by which every descendant can be found."""
    return {**os.environ, "CHARGEPOOL_TEST_MARKER": marker}


def processes_with(marker: str) -> list[int]:
    """Ids of living processes that inherited the marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if marker.encode() in (entry / "environ").read_bytes():
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if state != "Z":
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_until_gone(marker: str, *, within_s: float = 5.0) -> list[int]:
    """Wait for the ends of all processes with the marker; return those still there after so long."""
    deadline = time.monotonic() + within_s
    while left := processes_with(marker):
        rest_s = deadline - time.monotonic()
        if rest_s <= 0 or not _one_ends(left, within_s=rest_s):
            return processes_with(marker)
    return []


def _one_ends(process_ids: list[int], *, within_s: float) -> bool:
    """Wait until at least one of these processes has ended; False when none did in time."""
    with contextlib.ExitStack() as stack:
        watched = []
        for process_id in process_ids:
            try:
                watched.append(os.pidfd_open(process_id))
            except ProcessLookupError:
                return True
            stack.callback(os.close, watched[-1])
        return bool(select.select(watched, [], [], within_s)[0])


def last_line(output: str) -> str:
    """The demo's verdict."""
    return output.strip().splitlines()[-1]


@pytest.mark.timeout(LIMIT_S + 30)
def test_demo_under_chaos_holds_all_that_it_promises(tmp_path: Path) -> None:
    marker = f"demo-chaos-{os.getpid()}-{tmp_path.name}"
    done = subprocess.run(
        [*DEMO, "--seed", "11", "--chaos"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=environment_of(marker),
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    verdict = last_line(done.stdout)
    assert verdict.startswith("DEMO OK "), verdict
    figures: dict[str, Any] = json.loads(verdict.removeprefix("DEMO OK "))
    assert figures["accuracy"] >= 0.95
    assert figures["liar_quarantined"] is True
    assert figures["liar_rejected"] > 0
    assert figures["wrong_results_accepted"] == 0
    assert figures["ledger_sum_micros"] == 0
    assert figures["receipts_verified"] > figures["tasks"]
    assert figures["payout_total_micros"] > 0
    assert figures["server_kills"] == 3
    assert figures["agent_kills"] == 1
    assert wait_until_gone(marker) == []


@pytest.mark.timeout(120)
def test_ctrl_c_in_mid_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    marker = f"demo-interrupt-{os.getpid()}-{tmp_path.name}"
    with subprocess.Popen(
        DEMO,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment_of(marker),
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "six agents run" in line:
                break
        assert len(processes_with(marker)) > 6
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()
        assert demo.wait(60) == 130
    assert last_line(rest).startswith("DEMO FAILED: interrupted")
    assert wait_until_gone(marker) == []


@pytest.mark.timeout(120)
def test_killing_the_demo_itself_leaves_no_process_behind(tmp_path: Path) -> None:
    marker = f"demo-kill-{os.getpid()}-{tmp_path.name}"
    with subprocess.Popen(
        [*DEMO, "--data", str(tmp_path / "d")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment_of(marker),
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "six agents run" in line:
                break
        demo.kill()
        demo.wait()
    assert wait_until_gone(marker, within_s=20.0) == []
