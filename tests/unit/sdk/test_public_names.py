"""The public face: what is listed can be imported, and the other way round; nothing heavy comes along."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys

import chargepool
from tests.support.repository import ROOT


def test_every_listed_name_can_be_imported() -> None:
    assert [name for name in chargepool.__all__ if getattr(chargepool, name, None) is None] == []


def test_the_list_and_the_lazy_table_hold_the_same_names() -> None:
    assert sorted(chargepool._MODULE_OF_NAME) == chargepool.__all__


def test_every_name_is_the_object_of_its_module() -> None:
    for name, module in chargepool._MODULE_OF_NAME.items():
        assert getattr(chargepool, name) is getattr(importlib.import_module(f"chargepool.{module}"), name)


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse((ROOT / "chargepool" / "__init__.py").read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: (node.module or "").removeprefix("chargepool.")
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name not in chargepool._MODULES
    }
    assert seen == chargepool._MODULE_OF_NAME


def test_public_modules_are_loaded_when_they_are_used_and_list_what_they_hold() -> None:
    for name in chargepool._MODULES:
        module = getattr(chargepool, name)
        assert module is importlib.import_module(f"chargepool.{name}")
        assert [public for public in module.__all__ if not hasattr(module, public)] == []
        assert name in dir(chargepool)


def test_dir_lists_names_that_were_not_loaded_yet() -> None:
    assert set(chargepool.__all__) <= set(dir(chargepool))


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(chargepool, "no_such_name")


def test_importing_loads_neither_jax_nor_grpc_nor_numpy() -> None:
    code = (
        "import chargepool, json, sys; "
        "print(json.dumps([name for name in ('jax', 'grpc', 'numpy') if name in sys.modules]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == []


def test_connecting_and_asking_loads_no_jax() -> None:
    code = (
        "import chargepool, sys; [getattr(chargepool, name) for name in chargepool.__all__]; "
        "print('jax' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
