"""Which tables of a statement are joined otherwise than on the column they are distributed by.

A distributed table that stands beside something else, or in a subquery that refers to what is
around it, has to be bound to an owner's id: to a parameter, to the same column of another such
table, or to what a subquery passes on of either. Otherwise no node could answer for itself.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final

import sqlglot
from sqlglot import exp

from feed_service.models import DISTRIBUTED_BY, metadata

_PARTS: Final = (exp.Select, exp.Update, exp.Delete, exp.Insert)


def loose_tables(statement: str) -> set[str]:
    """Return the distributed tables that are joined on something else."""
    tree = sqlglot.parse_one(statement, dialect="postgres")
    return {name for node in tree.find_all(*_PARTS) for name in _Part(node).loose_tables()}


class _Part:
    """A SELECT, INSERT, UPDATE or DELETE of a statement."""

    def __init__(self, node: exp.Expr) -> None:
        self.node = node

    def loose_tables(self) -> Iterator[str]:
        """Yield the distributed tables here that are bound to no owner's id."""
        if isinstance(self.node, exp.Insert):
            yield from self._loose_target()
            return
        if len(self.sources) == 1 and not self.is_correlated:
            return
        for alias, source in self.sources.items():
            table = self.table(source)
            if table is not None and not self.is_bound(alias, DISTRIBUTED_BY[table]):
                yield table

    @cached_property
    def sources(self) -> dict[str, exp.Expr]:
        """Where rows come from, by the names that the part has for it."""
        found = [] if isinstance(self.node, exp.Select) else [self._target]
        if (origin := self.node.args.get("from_")) is not None:
            found.append(origin.this)
        found += self.node.args.get("using") or []
        found += [join.this for join in self._joins]
        return {source.alias_or_name: source for source in found}

    @cached_property
    def is_correlated(self) -> bool:
        """Whether it refers to what is around it."""
        inside = {name for node in self.node.find_all(*_PARTS) for name in _Part(node).sources}
        return any(
            column.table and column.table not in inside for column in self.node.find_all(exp.Column)
        )

    def table(self, source: exp.Expr) -> str | None:
        """Return the distributed table that a source is, if it is one."""
        is_table = isinstance(source, exp.Table) and self._named(source.name) is None
        return source.name if is_table and source.name in DISTRIBUTED_BY else None

    def is_bound(self, alias: str, column: str) -> bool:
        """Whether a condition binds a column of a source to owners' ids."""
        return any(
            self._is(one, alias, column) and self._are_owners(other)
            for condition in self._conditions()
            for one, other in _sides(condition)
        )

    def is_owner(self, value: exp.Expr) -> bool:
        """Whether a value is an owner's id: a parameter, or a column that passes one on."""
        value = value.unalias()
        if isinstance(value, exp.Column):
            return self._column_is_owner(value)
        return value.find(exp.Column, *_PARTS) is None

    @property
    def outputs(self) -> Sequence[exp.Expr]:
        """What it returns."""
        returning = self.node.args.get("returning")
        found: Sequence[exp.Expr] = (returning or self.node).expressions
        return found

    @property
    def _joins(self) -> list[exp.Join]:
        origin = self.node.args.get("from_")
        nested = origin.this.args.get("joins") if origin is not None else None
        return [*(self.node.args.get("joins") or []), *(nested or [])]

    @property
    def _target(self) -> exp.Expr:
        """What it changes; with the names of its columns, if it is an INSERT."""
        target: exp.Expr = self.node.this
        return target.this if isinstance(target, exp.Schema) else target

    def _loose_target(self) -> Iterator[str]:
        table, query = self._target.name, self.node.expression
        if table not in DISTRIBUTED_BY or not isinstance(query, exp.Select):
            return
        columns = [column.name for column in self.node.this.expressions]
        index = columns.index(DISTRIBUTED_BY[table])
        if not _Part(query).is_owner(query.expressions[index]):
            yield table

    def _conditions(self) -> Iterator[exp.Expr]:
        where = self.node.args.get("where")
        found = [where.this] if where is not None else []
        found += [join.args["on"] for join in self._joins if join.args.get("on") is not None]
        for condition in found:
            for part in condition.flatten() if isinstance(condition, exp.And) else (condition,):
                # ... IS TRUE and parentheses change nothing here.
                yield (part.this if isinstance(part, exp.Is) else part).unnest()

    def _is(self, value: exp.Expr, alias: str, column: str) -> bool:
        if not isinstance(value, exp.Column) or value.name != column:
            return False
        return value.table == alias or (not value.table and self._alias_of(column) == alias)

    def _alias_of(self, column: str) -> str | None:
        """Return the source that a column is of whose name says nothing of it."""
        found = [
            alias
            for alias, source in self.sources.items()
            if (table := self.table(source)) is None or column in metadata.tables[table].c
        ]
        return found[0] if len(found) == 1 else None

    def _are_owners(self, value: exp.Expr) -> bool:
        if isinstance(value, exp.Any):
            value = value.this.unnest()
        if isinstance(value, exp.Array):
            [value] = value.expressions
        value = value.unnest()
        if isinstance(value, exp.Select):
            return _Part(value).is_owner(value.expressions[0])
        return self.is_owner(value)

    def _column_is_owner(self, column: exp.Column) -> bool:
        alias = column.table or self._alias_of(column.name)
        if alias in self.sources:
            return self._passes_on(self.sources[alias], column.name)
        around = self.node.find_ancestor(*_PARTS)
        return around is not None and _Part(around)._column_is_owner(column)  # noqa: SLF001 -- a part of its own kind

    def _passes_on(self, source: exp.Expr, column: str) -> bool:
        if (table := self.table(source)) is not None:
            return DISTRIBUTED_BY[table] == column
        named = self._named(source.name) if isinstance(source, exp.Table) else source
        if named is None or isinstance(named, exp.Unnest):
            return named is not None
        return _returns_owner(named.this, column)

    def _named(self, name: str) -> exp.Expr | None:
        """Return what a name in WITH stands for, here; a query does not know itself."""
        around = list(self._around())
        for node in around:
            for query in with_.expressions if (with_ := node.args.get("with_")) else ():
                if query.alias == name and not any(query is outer for outer in around):
                    found: exp.Expr = query
                    return found
        return None

    def _around(self) -> Iterator[exp.Expr]:
        node: exp.Expr | None = self.node
        while node is not None:
            yield node
            node = node.parent


def _returns_owner(query: exp.Expr, column: str) -> bool:
    """Whether a column of what a query returns is an owner's id."""
    query = query.unnest()
    if isinstance(query, exp.SetOperation):
        return _returns_owner(query.left, column) and _returns_owner(query.right, column)
    part = _Part(query)
    for output in part.outputs:
        if output.alias_or_name == column:
            return part.is_owner(output)
    return any(
        part.is_owner(exp.column(column, table=output.args.get("table")))
        for output in part.outputs
        if output.is_star
    )


def _sides(condition: exp.Expr) -> Iterator[tuple[exp.Expr, exp.Expr]]:
    if isinstance(condition, exp.EQ):
        yield condition.this, condition.expression
        yield condition.expression, condition.this
    elif isinstance(condition, exp.In) and condition.args.get("query") is not None:
        yield condition.this, condition.args["query"]
