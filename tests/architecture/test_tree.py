"""The tidy rules that no linter has: lengths, names, and words that must not be committed."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.repository import GENERATED, ROOT, relative, repository_files, shipped_modules

MODULE_LINES_MAX = 450  # "about 400": a little over is a reason to look, not to cut a thought in two

# Composed, so that this file does not hold what it forbids.
REGISTRY_HOSTS = ("pypi" + ".org", "python" + "hosted.org", "test." + "pypi", "registry.npm" + "js.org")
MACHINE_PATHS = ("/" + "work/", "/" + "root/", "/opt/" + "pypi", "/home/" + "runner")
TEXT_MAX_BYTES = 4_000_000


def test_the_proto_directory_is_not_a_python_package() -> None:
    # With an __init__.py it would shadow proto-plus for everything run from the root.
    assert not list((ROOT / "proto").rglob("__init__.py"))


@pytest.mark.parametrize("words", [REGISTRY_HOSTS, MACHINE_PATHS], ids=["registry hosts", "machine paths"])
def test_no_committed_file_names(words: tuple[str, ...]) -> None:
    pattern = re.compile("|".join(rf"(?<![\w.-]){re.escape(word)}" for word in words).encode())
    found = [
        f"{relative(path)}: {match.group().decode()}"
        for path in repository_files()
        if path.stat().st_size < TEXT_MAX_BYTES
        for match in [pattern.search(path.read_bytes())]
        if match
    ]
    assert not found


def test_modules_stay_short() -> None:
    lengths = {
        relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in shipped_modules()
    }
    # A schema revision is one long list by nature, drafted by a program and never edited again.
    written = {name: lines for name, lines in lengths.items() if "/migrations/versions/" not in name}
    assert not {name: lines for name, lines in written.items() if lines > MODULE_LINES_MAX}


def test_every_module_says_what_it_decides() -> None:
    missing = [
        relative(path)
        for path in shipped_modules()
        if ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]
    assert not missing


def test_names_say_what_a_module_is_for() -> None:
    vague = {"utils", "util", "helpers", "helper", "manager", "misc", "common"}
    named = [
        relative(path) for path in shipped_modules() if vague & {path.stem.lstrip("_"), path.parent.name}
    ]
    assert not named


def test_no_assert_guards_shipped_code() -> None:
    # `python -O` removes them, and with them whatever they guarded.
    found = [
        f"{relative(path)}:{node.lineno}"
        for path in shipped_modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert not found


def test_nothing_is_ever_unpickled() -> None:
    found = [
        f"{relative(path)}: {ast.unparse(node)}"
        for path in shipped_modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if _imports(node) & {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
        or any(
            isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            for keyword in getattr(node, "keywords", [])
            if keyword.arg == "allow_pickle"
        )
    ]
    assert not found


def test_generated_stubs_are_marked_as_such() -> None:
    attributes = (ROOT / ".gitattributes").read_text(encoding="utf-8")
    assert f"{relative(GENERATED)}/** linguist-generated=true" in attributes


def _imports(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        return {node.module.split(".")[0]}
    return set()
