"""One request as a task, without Airflow."""
