"""A table in, an enriched table out: the engine of ``ResponsesEnrichOperator``, without Airflow."""

from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.results import merge_shards
from airflow_provider_responses.enrich.sources import CsvFile

__all__ = ["CsvFile", "Limits", "merge_shards"]
