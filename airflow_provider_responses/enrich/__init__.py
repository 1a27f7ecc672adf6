"""The engine of ``ResponsesEnrichOperator``, without Airflow: a table in, the same table with responses out."""

from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.shard_merge import merge_shards
from airflow_provider_responses.enrich.sources import CsvFile

__all__ = ["CsvFile", "Judge", "Limits", "merge_shards"]
