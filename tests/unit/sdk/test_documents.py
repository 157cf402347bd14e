"""What the buyers' pages show is what the SDK has: code parses, names and arguments exist, commands too."""

from __future__ import annotations

import ast
import inspect
import re

import click
import pytest

import chargepool
from chargepool.cli import cli
from tests.support.repository import ROOT

PAGES = ("README.md", "docs/tutorial/first-job.md", "docs/how-to/buy-computing.md")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|`)chargepool ((?:[a-z]+ ?)+)", re.MULTILINE)
HANDLES = {"pool": chargepool.Client, "cars": chargepool.Executor, "job": chargepool.Job}


def calls(page: str) -> list[tuple[str, str, list[str]]]:
    """(what it is called on, method, keyword arguments) of every call in the page's code."""
    found = []
    for block in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                name = owner.id if isinstance(owner, ast.Name) else ""
                found.append((name, node.func.attr, [word.arg for word in node.keywords if word.arg]))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_calls_in_the_pages_exist_with_their_arguments(page: str) -> None:
    checked = 0
    for owner, method, words in calls(page):
        target = HANDLES.get(owner, chargepool if owner == "chargepool" else None)
        if target is None:
            continue
        parameters = inspect.signature(getattr(target, method)).parameters
        takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        assert takes_more or set(words) <= set(parameters), f"{page}: {owner}.{method}"
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_pages_exist(page: str) -> None:
    for words in COMMAND.findall((ROOT / page).read_text(encoding="utf-8")):
        command: click.Command = cli
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            assert word in command.commands, f"{page}: chargepool {words}"
            command = command.commands[word]


def test_attributes_named_in_the_table_of_codes_are_codes() -> None:
    from pool_protocol.errors import ErrorCode

    text = (ROOT / "docs/how-to/buy-computing.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(PROGRAM_[A-Z_]+)`", text)) <= {code.value for code in ErrorCode}
