"""The aggregate functions of a query, found in its SQL: which function, over what, with which constants.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlglot import exp

from chronik.analytics.aggregate import (
    Aggregate,
    ApproximateDistinct,
    ApproximatePercentile,
    ApproximateTopK,
    Average,
    Count,
    CountAll,
    First,
    Last,
    Maximum,
    Minimum,
    Sum,
)
from chronik.analytics.statement import StatementError

MAX_TOP_K = 100
_PLAIN: dict[str, type[Any]] = {
    "count": Count,
    "sum": Sum,
    "avg": Average,
    "min": Minimum,
    "max": Maximum,
    "first": First,
    "last": Last,
    "approx_count_distinct": ApproximateDistinct,
}
_WITH_CONSTANT = ("approx_percentile", "approx_top_k")
NAMES = (*_PLAIN, *_WITH_CONSTANT)
_OTHERS = {"mean": "avg", "median": "approx_percentile(x, 0.5)", "quantile": "approx_percentile", "any_value": "first"}


class Call(NamedTuple):
    """A function with its argument as SQL over rows (None for `*`), its constants, and the condition of its FILTER."""

    function: str
    argument: str | None
    constants: tuple[float, ...] = ()
    condition: str | None = None

    def aggregate(self) -> Aggregate:
        """What computes it."""
        if self.function == "approx_percentile":
            return ApproximatePercentile(self.constants[0])
        if self.function == "approx_top_k":
            return ApproximateTopK(int(self.constants[0]))
        if self.argument is None:
            return CountAll()
        made: Aggregate = _PLAIN[self.function]()
        return made

    def partials(self) -> list[str]:
        """The SQL of its partial aggregates, over rows."""
        aggregate = self.aggregate()
        argument = "" if self.argument is None else tried(self.argument)
        conditions = [] if self.condition is None else [tried(self.condition)]
        if aggregate.needs_value:
            conditions.append(f"{argument} IS NOT NULL")
        end = f" FILTER (WHERE {' AND '.join(conditions)})" if conditions else ""
        return [partial.format(argument) + end for partial in aggregate.partials]


def tried(sql: str) -> str:
    """The expression, NULL where it cannot be computed: no record may stop a query."""
    return f"TRY({sql})"


def is_aggregate(node: exp.Expr) -> bool:
    """Whether the node is a call of an aggregate function, one of ours or not."""
    return isinstance(node, exp.AggFunc | exp.Filter) or _name(node) in NAMES


def call_of(node: exp.Expr, row_sql: Callable[[exp.Expr], str]) -> Call:
    """The call that `node` is. Raises StatementError for what isn't one of ours."""
    if isinstance(node, exp.Filter):
        if not is_aggregate(node.this):
            raise StatementError("FILTER belongs to an aggregate")
        return call_of(node.this, row_sql)._replace(condition=row_sql(node.expression.this))
    name = _name(node)
    if name not in NAMES:
        instead = f"; there is {_OTHERS[name]}" if name in _OTHERS else ""
        raise StatementError(
            f"{name} is not possible in a continuous query{instead}; the aggregates are {', '.join(NAMES)}"
        )
    arguments = _arguments(node)
    if name == "count" and len(arguments) == 1 and isinstance(arguments[0], exp.Star):
        return Call(name, None)
    wanted = 2 if name in _WITH_CONSTANT else 1
    if len(arguments) != wanted:
        raise StatementError(f"{name} takes {wanted} argument(s), not {len(arguments)}")
    if isinstance(arguments[0], exp.Distinct):
        raise StatementError(f"{name}(DISTINCT ...) is not possible; approx_count_distinct(x) counts different values")
    return Call(name, row_sql(arguments[0]), tuple(_constant(name, each) for each in arguments[1:]))


def _constant(name: str, node: exp.Expr) -> float:
    text = node.name if isinstance(node, exp.Literal) and not node.is_string else ""
    try:
        value = float(text)
    except ValueError:
        raise StatementError(f"{name}: its second argument is a number as it stands, not {node.sql()[:100]}") from None
    if name == "approx_percentile" and not 0 <= value <= 1:
        raise StatementError(f"approx_percentile: a fraction from 0 to 1, not {text}")
    if name == "approx_top_k" and not (value == int(value) and 1 <= value <= MAX_TOP_K):
        raise StatementError(f"approx_top_k: a whole number from 1 to {MAX_TOP_K}, not {text}")
    return value


def _name(node: exp.Expr) -> str:
    if isinstance(node, exp.Anonymous):
        return node.name.lower()
    if isinstance(node, exp.Func):
        names: dict[type[exp.Expr], str] = {
            exp.ApproxDistinct: "approx_count_distinct",
            exp.ApproxTopK: "approx_top_k",
        }
        named = names.get(type(node))
        return named or node.sql_name().lower()
    return ""


def _arguments(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, exp.Anonymous):
        return list(node.expressions)
    found = [node.this, node.args.get("expression"), *node.args.get("expressions", ())]
    return [each for each in found if each is not None]
