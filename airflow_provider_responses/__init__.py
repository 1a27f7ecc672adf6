"""Run Responses API requests as Apache Airflow tasks."""

__version__ = "0.1.0"
