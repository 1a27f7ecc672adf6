"""The lineage of an enrichment for OpenLineage: the datasets that it reads and writes, their rows, and its cost."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.operators.source_argument import source_path
from airflow_provider_responses.operators.sql import SqlQuery, SqlTable

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

FACET: Final = "responses"  # the name of the run facet
COUNTED: Final = (
    *("rows", "counts", "requests_sent", "requests_reused", "cache_hits", "tokens", "cost"),
    *("tiers", "judge"),  # with `escalate` and `judge`
)


def enrichment_lineage(task: ResponsesEnrichOperator, manifest: Mapping[str, Any] | None) -> OperatorLineage:
    """
    Return the lineage of an enrichment.

    A file is a dataset; so is a table whose hook describes its database to OpenLineage, as PostgreSQL's and MySQL's do.

    :param manifest: None before the end, and if the task failed before there was one.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage

    found = _read_lineage(task.source, manifest)
    outputs = [_output(*_name_of(manifest["output"]), manifest)] if manifest and manifest.get("output") else []
    if isinstance(task.load_to, SqlTable) and (table := _table_of(task.load_to)) is not None:
        outputs.append(_output(*table, None))
    own: Any = OperatorLineage(
        outputs=outputs, run_facets={} if manifest is None else {FACET: _run_facet(manifest, task.mode)}
    )
    return found.merge(own)


def _read_lineage(source: Any, manifest: Mapping[str, Any] | None) -> Any:
    """Return the lineage of a source."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    if isinstance(source, SqlQuery):
        return _query_lineage(source)
    path = source_path(source)
    return OperatorLineage(inputs=[] if path is None else [_input(*_name_of(path), manifest)])


def _query_lineage(query: SqlQuery) -> Any:
    from airflow.providers.common.compat.openlineage.facet import SQLJobFacet
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.providers.openlineage.sqlparser import SQLParser

    hook, connection, info = _database_of(query.conn_id)
    if info is None:
        return OperatorLineage(job_facets={"sql": SQLJobFacet(query=query.sql)})
    parser = SQLParser(
        dialect=hook.get_openlineage_database_dialect(connection), default_schema=hook.get_openlineage_default_schema()
    )
    return parser.generate_openlineage_metadata_from_sql(
        sql=query.sql, hook=hook, database_info=info, database=info.database, use_connection=False
    )


def _table_of(table: SqlTable) -> tuple[str, str] | None:
    """Return namespace and name of a table; None if its hook does not describe its database."""
    from airflow.providers.openlineage.sqlparser import SQLParser

    hook, connection, info = _database_of(table.conn_id)
    if info is None:
        return None
    parts = table.table.split(".")
    if len(parts) == 1 and (schema := hook.get_openlineage_default_schema()):
        parts.insert(0, schema)
    if len(parts) == 2 and (database := info.database or connection.schema):
        parts.insert(0, database)
    return SQLParser.create_namespace(info), ".".join(parts)


def _database_of(conn_id: str) -> tuple[Any, Any, Any]:
    """Return hook, connection and OpenLineage's description of a database."""
    from airflow.providers.common.compat.sdk import BaseHook

    connection: Any = BaseHook.get_connection(conn_id)
    hook = connection.get_hook()
    return hook, connection, hook.get_openlineage_database_info(connection)


def _name_of(path: Any) -> tuple[str, str]:
    """Return namespace and name of a file, by OpenLineage's naming."""
    scheme, separator, rest = str(path).partition("://")
    if not separator:
        return "file", scheme
    authority, _, name = rest.partition("/")
    authority = authority.rpartition("@")[2] if scheme not in {"abfs", "abfss"} else authority
    return f"{scheme}://{authority}", name


def _input(namespace: str, name: str, manifest: Mapping[str, Any] | None) -> Any:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.generated.input_statistics_input_dataset import InputStatisticsInputDatasetFacet

    facets = {}
    if manifest is not None:
        facets["inputStatistics"] = InputStatisticsInputDatasetFacet(rowCount=manifest["rows"])
    return InputDataset(namespace=namespace, name=name, inputFacets=facets)


def _output(namespace: str, name: str, manifest: Mapping[str, Any] | None) -> Any:
    from airflow.providers.common.compat.openlineage.facet import OutputDataset, OutputStatisticsOutputDatasetFacet

    facets = {}
    if manifest is not None:
        facets["outputStatistics"] = OutputStatisticsOutputDatasetFacet(rowCount=manifest["rows"])
    return OutputDataset(namespace=namespace, name=name, outputFacets=facets)


def _run_facet(manifest: Mapping[str, Any], mode: str) -> Any:
    prompt = manifest.get("prompt") or {}
    return _facet_class()(
        model=prompt.get("model"),
        prompt=prompt.get("fingerprint"),
        mode=mode,
        **{name: manifest.get(name) for name in COUNTED},
    )


@functools.cache
def _facet_class() -> type[Any]:
    """Return the class of the run facet, which OpenLineage's client serializes."""
    import attr
    from airflow.providers.common.compat.openlineage.facet import RunFacet

    fields = ("model", "prompt", "mode", *COUNTED)
    made: type[Any] = attr.make_class(
        "ResponsesRunFacet", {name: attr.ib(default=None) for name in fields}, bases=(RunFacet,), slots=False
    )
    return made
