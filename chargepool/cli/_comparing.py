"""Comparators on the command line: every one that the SDK can say, for all outputs or for one by its name.

    --close RTOL ATOL | --ulp N | --unordered      for all outputs
    --compare RULE                                 the same, by one option
    --compare NAME=RULE                            for one output; may be repeated
    --compare measured                             what a check of the program's numerics proposes

with RULE one of `exact`, `close:RTOL,ATOL`, `ulp:N` and `unordered`.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

import click

from chargepool._comparators import Comparator, as_comparator, close, exact, per_output, ulp, unordered
from chargepool._errors import ProgramRefused

F = TypeVar("F", bound=Callable[..., Any])

_RULES = "exact, close:RTOL,ATOL, ulp:N or unordered"


def comparator_options(function: F) -> F:
    """Add the options that declare a comparator; the function gets one `comparator`, None without any."""

    @click.option(
        "--close",
        "tolerances",
        type=float,
        nargs=2,
        metavar="RTOL ATOL",
        help="Results agree within these tolerances; without any such option, bit by bit.",
    )
    @click.option("--ulp", "ulps", type=int, metavar="N", help="Results agree within N representable values.")
    @click.option(
        "--unordered",
        "is_unordered",
        is_flag=True,
        help="Results agree when they hold the same rows, in any order.",
    )
    @click.option(
        "--compare",
        "rules",
        multiple=True,
        metavar="[NAME=]RULE",
        help=f"A rule for one output, or for all that have none: {_RULES}. May be repeated, for example "
        "--compare loss=close:1e-5,1e-8 --compare hits=unordered. Or: measured, as `program check` proposes.",
    )
    @wraps(function)
    def wrapped(
        *args: Any,
        tolerances: tuple[float, float] | None,
        ulps: int | None,
        is_unordered: bool,
        rules: Sequence[str],
        **kwargs: Any,
    ) -> Any:
        try:
            comparator = _declared(tolerances, ulps, is_unordered=is_unordered, rules=rules)
        except ProgramRefused as error:
            raise click.UsageError(error.detail) from error
        return function(*args, comparator=comparator, **kwargs)

    return wrapped  # type: ignore[return-value]


def words_of(comparator: Comparator) -> str:
    """Return the options that declare a comparator, as they are typed into a shell."""
    rest = replace(comparator, outputs=())
    words = [] if rest.is_exact and comparator.outputs else ["--compare", _rule_text(rest)]
    for name, rule in comparator.outputs:
        words += ["--compare", f"{name}={_rule_text(rule)}"]
    return shlex.join(words)


def parse_rule(text: str) -> Comparator:
    """Read one rule, "ulp:4".

    Raises:
        click.UsageError: It is none.
        ProgramRefused: Its figures make no rule.
    """
    kind, _colon, figures = text.partition(":")
    try:
        match kind.strip(), [figure.strip() for figure in figures.split(",") if figure.strip()]:
            case "exact", []:
                return exact()
            case "measured", []:
                return as_comparator("measured")
            case "unordered", []:
                return unordered()
            case "ulp", [count]:
                return ulp(int(count))
            case "close", [rtol, atol]:
                return close(rtol=float(rtol), atol=float(atol))
    except ValueError:
        pass
    raise click.UsageError(f"{text!r} is not a rule; write {_RULES}")


def _declared(
    tolerances: tuple[float, float] | None, ulps: int | None, *, is_unordered: bool, rules: Sequence[str]
) -> Comparator | None:
    for_all: list[Comparator] = []
    if tolerances is not None:
        for_all.append(close(rtol=tolerances[0], atol=tolerances[1]))
    if ulps is not None:
        for_all.append(ulp(ulps))
    if is_unordered:
        for_all.append(unordered())
    named: dict[str, Comparator] = {}
    for text in rules:
        # Names may hold what they like; rules hold no "=".
        name, separator, rule = text.rpartition("=")
        if not separator:
            for_all.append(parse_rule(rule))
        elif name in named:
            raise click.UsageError(f"output {name!r} has two rules")
        else:
            named[name] = parse_rule(rule)
    if len(for_all) > 1:
        raise click.UsageError("there is one rule for all outputs; name the others: --compare NAME=RULE")
    if not for_all and not named:
        return None
    rest = for_all[0] if for_all else exact()
    return per_output(named, otherwise=rest) if named else rest


def _rule_text(rule: Comparator) -> str:
    if rule.any_order:
        return "unordered"
    if rule.ulps:
        return f"ulp:{rule.ulps}"
    return "exact" if rule.is_exact else f"close:{rule.rtol!r},{rule.atol!r}"
