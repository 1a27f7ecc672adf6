"""
SQL of a model, held to SELECT from listed tables. No I/O.

The statement that runs is generated from the parsed one: a comment that the parser skips, and a database would execute,
is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sqlglot import exp

_BEGINNING: Final = re.compile(r"[\s(]*(select|with)\b", re.IGNORECASE)
# Names of sqlglot's classes. Each writes, locks, sets a variable, reads files or calls a model.
_REFUSED: Final = (
    "DML",
    "DDL",
    "Command",
    "Into",
    "Lock",
    "Describe",
    "Summarize",
    "Pragma",
    "Set",
    "Use",
    "Drop",
    "Alter",
    "Copy",
    "Kill",
    "Transaction",
    "Parameter",
    "SessionParameter",
    "Placeholder",
    "PropertyEQ",
    "NextValueFor",
    "ReadCSV",
    "ReadParquet",
    "ToFile",
    "AnonymousAggFunc",
    "AIAgg",
    "AIClassify",
    "AIEmbed",
    "AIForecast",
    "AIGenerate",
    "AISimilarity",
    "AISummarizeAgg",
    "GenerateBool",
    "GenerateDouble",
    "GenerateEmbedding",
    "GenerateInt",
    "GenerateTable",
    "GenerateText",
    "MLForecast",
    "MLTranslate",
    "Predict",
)
_SEQUENCES: Final = frozenset({"nextval", "currval"})  # Oracle's and Snowflake's sequences look like columns


class SqlRefusedError(ValueError):
    """A statement is not a SELECT from the listed tables; the message is for the model."""


def read_only_sql(sql: str, *, dialect: str, tables: Sequence[str], row_limit: int) -> str:
    """
    Return a statement as it may run: one SELECT from the listed tables, with a limit of rows.

    :param dialect: sqlglot's name of it.
    :param tables: those that may be read: a name without a schema allows that name alone.
    :raises SqlRefusedError: for all else.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    if not _BEGINNING.match(sql):
        raise SqlRefusedError("the statement must begin with SELECT or WITH")
    try:
        statements = [it for it in sqlglot.parse(sql, dialect=dialect) if it is not None]
    except (SqlglotError, RecursionError) as error:
        raise SqlRefusedError(f"the statement cannot be parsed: {str(error).splitlines()[0]}") from None
    if len(statements) != 1:
        raise SqlRefusedError(f"one statement is allowed, got {len(statements)}")
    (statement,) = statements
    if not isinstance(statement.unnest(), (exp.Select, exp.SetOperation)):
        raise SqlRefusedError(f"the statement must be a SELECT, got {statement.key.upper()}")
    _check_nodes(statement)
    _check_tables(statement, dialect, tables)
    return str(_limited(statement, row_limit).sql(dialect=dialect, comments=False))


def table_name(name: str, dialect: str) -> tuple[str, str, str]:
    """
    Return catalog, schema and name of a table, in the case that the database reads.

    :raises ValueError: if it is no name of a table.
    """
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        return _identity(exp.to_table(name, dialect=dialect), dialect)
    except (SqlglotError, AttributeError) as error:
        raise ValueError(f"{name!r} is no name of a table") from error


def _check_nodes(statement: exp.Expression) -> None:
    from sqlglot import exp

    refused: Any = tuple(found for name in _REFUSED if isinstance(found := getattr(exp, name, None), type))
    for node in statement.walk():
        if isinstance(node, refused):
            raise SqlRefusedError(f"{node.key.upper()} is not allowed: only SELECT is")
        if isinstance(node, exp.Anonymous):
            raise SqlRefusedError(f"the function {node.name} is not allowed: only common functions of SQL are")
        if isinstance(node, exp.Column) and node.table and node.name.lower() in _SEQUENCES:
            raise SqlRefusedError(f"{node.name} is not allowed: it changes a sequence")


def _check_tables(statement: exp.Expression, dialect: str, tables: Sequence[str]) -> None:
    from sqlglot import exp

    allowed = {table_name(name, dialect) for name in tables}
    for table in statement.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            raise SqlRefusedError("a function is not allowed in place of a table")
        is_plain = not (table.args.get("db") or table.args.get("catalog"))
        if (is_plain and _is_cte(table)) or _identity(table, dialect) in allowed:
            continue
        shown = ".".join(part.name for part in table.parts)
        raise SqlRefusedError(f"the table {shown} is not allowed; the tables are {', '.join(tables)}")


def _is_cte(table: exp.Table) -> bool:
    """Whether a name is that of a CTE which is visible there, written in the same way."""
    return any(
        cte.alias == table.name and _is_quoted(cte.args["alias"].this) is _is_quoted(table.this)
        for cte in _visible_ctes(table)
    )


def _visible_ctes(table: exp.Table) -> Iterator[exp.CTE]:
    """Yield the CTEs that a name may refer to: inside of a WITH, those before it, or all if it is recursive."""
    from sqlglot import exp

    node: Any = table
    own: exp.CTE | None = None  # the one that holds the name
    while node.parent is not None:
        parent = node.parent
        if isinstance(node, exp.CTE):
            own = node
        if isinstance(parent, exp.With):
            for cte in parent.expressions:
                if cte is own and not parent.args.get("recursive"):
                    break
                yield cte
            # The statement that has this WITH is the next one up, and its CTEs have been listed.
            node = parent.parent
            continue
        if not isinstance(node, exp.With) and (own_with := parent.args.get("with_") or parent.args.get("with")):
            yield from own_with.expressions
        node = parent


def _identity(table: exp.Table, dialect: str) -> tuple[str, str, str]:
    from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

    named = normalize_identifiers(table.copy(), dialect=dialect)
    return named.catalog, named.db, named.name


def _is_quoted(identifier: Any) -> bool:
    return bool(identifier.args.get("quoted"))


def _limited(statement: exp.Expression, row_limit: int) -> exp.Expression:
    """Return the statement with a limit of rows, unless it has a lower one."""
    from sqlglot import exp

    query: Any = statement.unnest()
    given = query.args.get("limit")
    if given is not None:
        count = given.args.get("expression") or given.args.get("count")
        options = given.args.get("limit_options")
        if options is not None and (options.args.get("percent") or options.args.get("with_ties")):
            count = None
        if isinstance(count, exp.Literal) and not count.is_string and count.name.isdecimal():
            if int(count.name) <= row_limit:
                return query
        else:
            raise SqlRefusedError("the limit of rows must be a number")
    query.set("limit", exp.Limit(expression=exp.Literal.number(row_limit)))
    return query
