"""
SQL of a model, held to SELECT from listed tables. No I/O.

Only what `select_only_grammar` lists may occur in a statement: kinds of nodes, their parts, functions, types. The
statement that runs is generated from the parsed one, without comments, and is then checked again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.tools.select_only_grammar import (
    COLUMNS_REFUSED,
    FUNCTIONS,
    NODES,
    OTHER_FUNCTIONS,
    PARTS,
    TYPES,
    UNIT_PARENTS,
)

if TYPE_CHECKING:
    from sqlglot import exp

DIALECTS: Final = ("duckdb", "mysql", "postgres", "sqlite")
MAX_LENGTH: Final = 20_000  # characters of a statement
_BEGINNING: Final = re.compile(r"[\s(]*(select|with)\b", re.IGNORECASE)
_UNIT: Final = re.compile(r"[A-Za-z_]+")


class SqlRefusedError(ValueError):
    """A statement is not a SELECT from the listed tables; the message is for the model."""


def read_only_sql(sql: str, *, dialect: str, tables: Sequence[str], row_limit: int) -> str:
    """
    Return a statement as it may run: one SELECT from the listed tables, with a limit of rows.

    :param dialect: one of ``DIALECTS``.
    :param tables: those that may be read: a name without a schema allows that name alone.
    :raises SqlRefusedError: for all else.
    """
    from sqlglot import ErrorLevel
    from sqlglot.errors import SqlglotError

    if dialect not in DIALECTS:
        raise SqlRefusedError(f"the dialect {dialect} is not supported; the dialects are {', '.join(DIALECTS)}")
    if len(sql) > MAX_LENGTH:
        raise SqlRefusedError(f"the statement must have at most {MAX_LENGTH} characters, got {len(sql)}")
    try:
        statement = _checked(sql, dialect, tables)
        _limit(statement, row_limit)
        written = str(statement.sql(dialect=dialect, comments=False, unsupported_level=ErrorLevel.RAISE))
        _checked(written, dialect, tables)
    except (SqlglotError, RecursionError) as error:
        raise SqlRefusedError(f"the statement cannot be parsed: {str(error).splitlines()[0]}") from None
    return written


def table_name(name: str, dialect: str) -> tuple[str, str, str]:
    """
    Return catalog, schema and name of a table, in the case that the database reads.

    :raises ValueError: if it is no name of a table.
    """
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        table = exp.to_table(name, dialect=dialect)
    except (SqlglotError, AttributeError) as error:
        raise ValueError(f"{name!r} is no name of a table") from error
    if not isinstance(table.this, exp.Identifier):
        raise ValueError(f"{name!r} is no name of a table")  # noqa: TRY004  its value is wrong
    return _identity(table, dialect)


def _checked(sql: str, dialect: str, tables: Sequence[str]) -> exp.Expression:
    import sqlglot
    from sqlglot import exp

    if not _BEGINNING.match(sql):
        raise SqlRefusedError("the statement must begin with SELECT or WITH")
    statements = [it for it in sqlglot.parse(sql, dialect=dialect) if it and not isinstance(it, exp.Semicolon)]
    if len(statements) != 1:
        raise SqlRefusedError(f"one statement is allowed, got {len(statements)}")
    (parsed,) = statements
    for node in parsed.walk():
        _check_node(node)
    statement = parsed.unnest()
    if not isinstance(statement, (exp.Select, exp.SetOperation)):
        raise SqlRefusedError(f"the statement must be a SELECT, got {statement.key.upper()}")
    _check_ctes(parsed, dialect, tables)
    allowed = {table_name(name, dialect) for name in tables}
    for table in parsed.find_all(exp.Table):
        if not _is_cte(table) and _identity(table, dialect) not in allowed:
            shown = ".".join(part.name for part in table.parts)
            raise SqlRefusedError(f"the table {shown} is not allowed; the tables are {', '.join(tables)}")
    return statement


def _check_node(node: exp.Expression) -> None:
    from sqlglot import exp

    kind = type(node).__name__
    if kind == "Anonymous":
        if not isinstance(node.this, str) or node.this.lower() not in OTHER_FUNCTIONS:
            raise SqlRefusedError(f"the function {node.name} is not allowed: only common functions of SQL are")
    elif isinstance(node, exp.Func) and kind not in NODES:
        if kind not in FUNCTIONS:
            raise SqlRefusedError(f"the function {node.sql_name()} is not allowed: only common functions of SQL are")
    elif kind not in NODES:
        raise SqlRefusedError(f"{node.key.upper()} is not allowed: only a plain SELECT is")
    if (parts := PARTS.get(kind)) is not None:
        for part, value in node.args.items():
            if value and part not in parts:
                raise SqlRefusedError(f"{part.strip('_').upper()} of {node.key.upper()} is not allowed")
    if (check := _CHECKS.get(kind)) is not None:
        check(node)


def _check_source(node: exp.Expression) -> None:
    """Refuse what is neither a table nor a subquery, in FROM and JOIN."""
    if type(node.this).__name__ not in ("Table", "Subquery"):
        raise SqlRefusedError(f"only tables and subqueries are allowed in {node.key.upper()}, got {_kind(node.this)}")


def _check_table(node: exp.Expression) -> None:
    from sqlglot import exp

    parts = [node.this, *(part for name in ("db", "catalog") if (part := node.args.get(name)))]
    if not all(isinstance(part, exp.Identifier) for part in parts):
        raise SqlRefusedError("a function is not allowed in place of a table")
    if node.args.get("indexed") is not None:
        raise SqlRefusedError("INDEXED of TABLE is not allowed")
    if not isinstance(node.parent, (exp.From, exp.Join)):
        raise SqlRefusedError(f"a table is allowed in FROM and JOIN, not in {_kind(node.parent)}")


def _check_query(node: exp.Expression) -> None:
    """Refuse a subquery, CTE, or EXISTS of anything but a query."""
    from sqlglot import exp

    for part in ("this", "expression") if isinstance(node, exp.SetOperation) else ("this",):
        if not isinstance(found := node.args.get(part), (exp.Select, exp.SetOperation, exp.Subquery)):
            raise SqlRefusedError(f"only a SELECT is allowed in {node.key.upper()}, got {_kind(found)}")


def _check_in(node: exp.Expression) -> None:
    from sqlglot import exp

    query = node.args.get("query")
    if query is not None and not isinstance(query, (exp.Select, exp.SetOperation, exp.Subquery)):
        raise SqlRefusedError(f"only a list or a SELECT is allowed in IN, got {_kind(query)}")


def _check_column(node: exp.Expression) -> None:
    from sqlglot import exp

    name, qualifier = node.this, node.args.get("table")
    if not isinstance(name, (exp.Identifier, exp.Star)):
        raise SqlRefusedError(f"{_kind(name)} is not allowed in place of a column")
    if node.name.lower() in COLUMNS_REFUSED:
        raise SqlRefusedError(f"{node.name} is not allowed: it is no column")
    if qualifier is None:
        return
    if qualifier.name.lower() not in _names_in_scope(node):
        raise SqlRefusedError(f"{qualifier.name} of {qualifier.name}.{node.name} is not a table or an alias in FROM")


def _names_in_scope(node: exp.Expression) -> set[str]:
    """Return the aliases and tables in the FROM of each SELECT that holds the node."""
    from sqlglot import exp

    names = set()
    select = node.find_ancestor(exp.Select)
    while select is not None:
        sources = [select.args.get("from_"), *select.args.get("joins", ())]
        names |= {source.this.alias_or_name.lower() for source in sources if source is not None}
        select = select.find_ancestor(exp.Select)
    return names


def _check_number(node: exp.Expression) -> None:
    """Refuse a LIMIT, FETCH or OFFSET that is no number."""
    from sqlglot import exp

    count = node.args.get("count" if isinstance(node, exp.Fetch) else "expression")
    if not (isinstance(count, exp.Literal) and not count.is_string and count.name.isdecimal()):
        raise SqlRefusedError(f"the {node.key.upper()} must be a number")


def _check_type(node: exp.Expression) -> None:
    from sqlglot import exp

    kind = node.this
    if not isinstance(kind, exp.DType) or kind.name not in TYPES:
        raise SqlRefusedError(f"the type {getattr(kind, 'name', kind)} is not allowed")


def _check_unit(node: exp.Expression) -> None:
    """Refuse a word that is no unit of time in a function."""
    if type(node.parent).__name__ not in UNIT_PARENTS or not _UNIT.fullmatch(str(node.this)):
        raise SqlRefusedError(f"{node.name} is not allowed in {_kind(node.parent)}")


_CHECKS: Final = {
    "From": _check_source,
    "Join": _check_source,
    "Table": _check_table,
    "Subquery": _check_query,
    "CTE": _check_query,
    "Exists": _check_query,
    "Union": _check_query,
    "Except": _check_query,
    "Intersect": _check_query,
    "In": _check_in,
    "Column": _check_column,
    "Limit": _check_number,
    "Fetch": _check_number,
    "Offset": _check_number,
    "DataType": _check_type,
    "Var": _check_unit,
}


def _kind(node: Any) -> str:
    return str(getattr(node, "key", node)).upper()


def _check_ctes(statement: exp.Expression, dialect: str, tables: Sequence[str]) -> None:
    """Refuse a name of a CTE that another CTE or a listed table has: a name has one meaning in a statement."""
    from sqlglot import exp

    seen = {table_name(name, dialect)[-1].lower() for name in tables}
    for cte in statement.find_all(exp.CTE):
        if (name := cte.alias.lower()) in seen:
            raise SqlRefusedError(f"the CTE {cte.alias} has the name of a table or of another CTE: rename it")
        seen.add(name)


def _is_cte(table: exp.Table) -> bool:
    """Whether a name is that of a CTE which is visible there, written in the same way."""
    if table.args.get("db") or table.args.get("catalog"):
        return False
    return any(
        cte.alias == table.name and _is_quoted(cte.args["alias"].this) is _is_quoted(table.this)
        for cte in _visible_ctes(table)
    )


def _visible_ctes(table: exp.Table) -> Iterator[exp.CTE]:
    """Yield the CTEs that a name may refer to: inside of a WITH, those before it, and its own where it recurs."""
    from sqlglot import exp

    node: Any = table
    while (parent := node.parent) is not None:
        if isinstance(parent, exp.With):
            for cte in parent.expressions:
                if cte is node:
                    break
                yield cte
            if parent.args.get("recursive") and _is_recurring(table, node):
                yield node
            node = parent.parent  # its CTEs are those of this WITH
            continue
        if (with_ := parent.args.get("with_")) is not None:
            yield from with_.expressions
        node = parent


def _is_recurring(table: exp.Table, cte: exp.CTE) -> bool:
    """Whether a table stands in the FROM of the right SELECT of a CTE that is a plain UNION: there alone, it recurs."""
    from sqlglot import exp

    union = cte.this
    if type(union) is not exp.Union or any(union.args.get(part) for part in ("with_", "order", "limit", "offset")):
        return False
    return isinstance(table.parent, (exp.From, exp.Join)) and table.parent.parent is union.expression


def _identity(table: exp.Table, dialect: str) -> tuple[str, str, str]:
    from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

    named = normalize_identifiers(table.copy(), dialect=dialect)
    return named.catalog, named.db, named.name


def _is_quoted(identifier: Any) -> bool:
    return bool(identifier.args.get("quoted"))


def _limit(query: exp.Expression, row_limit: int) -> None:
    """Set the limit of rows, unless the statement has a lower one."""
    from sqlglot import exp

    given = query.args.get("limit")
    if given is not None and int((given.args.get("expression") or given.args["count"]).name) <= row_limit:
        return
    query.set("limit", exp.Limit(expression=exp.Literal.number(row_limit)))
