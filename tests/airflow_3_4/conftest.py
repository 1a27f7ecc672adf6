"""What only Airflow 3.4 and later have."""

from __future__ import annotations

from airflow.providers.common.compat.version_compat import get_base_airflow_version_tuple

collect_ignore_glob = ["test_*.py"] if get_base_airflow_version_tuple() < (3, 4, 0) else []
