"""Batches of an enrichment, without Airflow."""
