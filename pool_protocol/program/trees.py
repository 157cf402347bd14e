"""Containers of arrays as JSON: plain dict, list, tuple and None, and nothing that runs code.

A tree is `"*"` (an array), `null` (None), `{"dict": {key: tree}}`, `{"list": [trees]}` or `{"tuple":
[trees]}`. Dicts have text keys and are walked in the order of their keys, as JAX does.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pool_protocol.errors import ErrorCode, PoolError

#: A tree as `json.loads` gives it. Only `check_tree` says that a value of this type is well-formed.
Tree = Any
LEAF = "*"
#: The name of a group's only array when the group is that array and no container.
BARE_NAME = "value"
_DEPTH_MAX = 32


def tree_of(value: object, *, _depth: int = 0) -> Tree:
    """Return the tree of a container.

    Raises:
        PoolError: PROGRAM_CUSTOM_PYTREE for named tuples, other classes, keys that are not text, or more
        than 32
            levels.
    """
    if _depth > _DEPTH_MAX:
        raise PoolError(ErrorCode.PROGRAM_CUSTOM_PYTREE, f"containers are nested more than {_DEPTH_MAX} deep")
    if value is None:
        return None
    # Exact types: a subclass (NamedTuple, OrderedDict) would come back as something else than it was.
    if type(value) is dict:
        if not all(isinstance(key, str) for key in value):
            raise PoolError(ErrorCode.PROGRAM_CUSTOM_PYTREE, "the keys of a dict must be text")
        return {"dict": {key: tree_of(value[key], _depth=_depth + 1) for key in sorted(value)}}
    if type(value) is list:
        return {"list": [tree_of(item, _depth=_depth + 1) for item in value]}
    if type(value) is tuple:
        return {"tuple": [tree_of(item, _depth=_depth + 1) for item in value]}
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return LEAF
    if isinstance(value, (bool, int, float, complex)):
        return LEAF
    raise PoolError(
        ErrorCode.PROGRAM_CUSTOM_PYTREE,
        f"a {type(value).__qualname__} is no array and no dict, list, tuple or None",
        context={"type": type(value).__qualname__},
    )


def check_tree(tree: Tree, *, _depth: int = 0) -> Tree:
    """Return the tree after checking that it is well-formed.

    Raises:
        PoolError: PROGRAM_MANIFEST_INVALID otherwise.
    """
    if _depth > _DEPTH_MAX:
        raise _invalid(f"a tree is nested more than {_DEPTH_MAX} deep")
    if tree is None or tree == LEAF:
        return tree
    if not isinstance(tree, dict) or len(tree) != 1:
        raise _invalid("a tree is '*', null, or one of dict, list and tuple")
    kind, children = next(iter(tree.items()))
    if kind == "dict" and isinstance(children, dict):
        items = list(children.values())
    elif kind in {"list", "tuple"} and isinstance(children, list):
        items = children
    else:
        raise _invalid("a tree is '*', null, or one of dict, list and tuple")
    for item in items:
        check_tree(item, _depth=_depth + 1)
    return tree


def leaf_names(tree: Tree) -> list[str]:
    """Return the names of a tree's arrays in the order in which they are passed."""
    return [name or BARE_NAME for name in _paths(tree, "")]


def leaves_of(value: Any, tree: Tree) -> list[Any]:
    """Return the arrays of a container in the order of `leaf_names`.

    Raises:
        PoolError: INVALID_ARGUMENT when the container does not have the tree's structure.
    """
    if tree is None:
        if value is not None:
            raise _mismatch("None", value)
        return []
    if tree == LEAF:
        return [value]
    kind, children = next(iter(tree.items()))
    if kind == "dict":
        if not isinstance(value, Mapping) or value.keys() != children.keys():
            raise _mismatch(f"a dict with the keys {sorted(children)}", value)
        return [leaf for key in sorted(children) for leaf in leaves_of(value[key], children[key])]
    if not isinstance(value, (list, tuple)) or len(value) != len(children):
        raise _mismatch(f"a {kind} of {len(children)}", value)
    return [leaf for item, child in zip(value, children, strict=True) for leaf in leaves_of(item, child)]


def flatten(value: Any, tree: Tree) -> dict[str, Any]:
    """Return the arrays of a container by their names.

    Raises:
        PoolError: INVALID_ARGUMENT when the container does not have the tree's structure.
    """
    return dict(zip(leaf_names(tree), leaves_of(value, tree), strict=True))


def unflatten(leaves: Mapping[str, Any], tree: Tree) -> Any:
    """Put named arrays back into their containers.

    Raises:
        PoolError: INVALID_ARGUMENT when the names are not exactly those of the tree.
    """
    names = leaf_names(tree)
    if leaves.keys() != set(names):
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"expected arrays named {names}, got {sorted(leaves)}")
    return _build(tree, iter([leaves[name] for name in names]))


def _build(tree: Tree, leaves: Iterator[Any]) -> Any:
    if tree is None:
        return None
    if tree == LEAF:
        return next(leaves)
    kind, children = next(iter(tree.items()))
    if kind == "dict":
        return {key: _build(children[key], leaves) for key in sorted(children)}
    items = [_build(child, leaves) for child in children]
    return items if kind == "list" else tuple(items)


def _paths(tree: Tree, prefix: str) -> Iterator[str]:
    if tree is None:
        return
    if tree == LEAF:
        yield prefix
        return
    kind, children = next(iter(tree.items()))
    steps = (
        sorted(children.items()) if kind == "dict" else [(str(i), child) for i, child in enumerate(children)]
    )
    for step, child in steps:
        escaped = step.replace("~", "~0").replace("/", "~1") or "~2"
        yield from _paths(child, f"{prefix}/{escaped}" if prefix else escaped)


def _invalid(reason: str) -> PoolError:
    return PoolError(ErrorCode.PROGRAM_MANIFEST_INVALID, reason)


def _mismatch(expected: str, value: object) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, f"expected {expected}, got {type(value).__name__}")
