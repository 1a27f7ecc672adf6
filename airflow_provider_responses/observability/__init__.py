"""
Spans and metrics of requests. No Airflow: the caller passes in the task's attributes, its trace and its metrics.

OpenTelemetry is never imported here unless the process has it already; see :func:`spans.find_tracer`.
"""
