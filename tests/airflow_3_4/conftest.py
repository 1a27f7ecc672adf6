"""Tests of features that Airflow has from 3.4 on."""

from __future__ import annotations

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

collect_ignore_glob = [] if AIRFLOW_V_3_4_PLUS else ["test_*.py"]
