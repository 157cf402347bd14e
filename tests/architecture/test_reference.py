"""The reference pages say what the code says: their tables are what `make reference` would write now."""

from __future__ import annotations

import re

import pytest

from pool_protocol.errors import ErrorCode
from pool_server.rpc.policy import POLICY
from scripts.generate_reference import BLOCK, BLOCKS, REFERENCE, rewritten
from tests.support.repository import ROOT


@pytest.mark.parametrize("page", ["states.md", "outcomes.md"])
def test_the_tables_are_fresh(page: str) -> None:
    text = (REFERENCE / page).read_text(encoding="utf-8")
    assert text == rewritten(text), "run `make reference` and commit the result"


def test_every_table_has_its_place() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))
    assert sorted(match.group("name") for match in BLOCK.finditer(pages)) == sorted(BLOCKS)


def test_every_code_that_the_prose_names_exists() -> None:
    prose = BLOCK.sub("", (ROOT / "docs" / "reference" / "outcomes.md").read_text(encoding="utf-8"))
    named = {word for word in re.findall(r"`([A-Z_]+)`", prose) if not word.endswith("_")}
    assert len(named) > 20
    assert named <= {*ErrorCode.__members__, "RESOURCE_EXHAUSTED"}


def test_every_call_of_ours_has_its_row_of_refusals() -> None:
    prose = BLOCK.sub("", (ROOT / "docs" / "reference" / "outcomes.md").read_text(encoding="utf-8"))
    rows = {
        (service, call)
        for service, section in re.findall(r"^### (\w+)\n(.*?)(?=^##)", prose, re.MULTILINE | re.DOTALL)
        for call in re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    }
    ours = {tuple(method.split(".")[-1].split("/")) for method in POLICY if "pool_protocol" in method}
    assert rows == ours
