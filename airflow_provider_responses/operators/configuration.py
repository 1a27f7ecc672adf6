"""The options of the section ``[responses]`` of Airflow's configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from airflow.providers.common.compat.sdk import AirflowConfigException, conf

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.validation import check_number

SECTION: Final = "responses"
# The defaults of `get_provider_info`, for processes that have not loaded the providers' configuration.
MIN_DEFERRAL: Final = 5.0  # seconds
MAX_TRIGGER_BYTES: Final = 48_000  # encrypted, they are a third more; MySQL's column ends at 65,535


def min_deferral() -> float:
    """
    Return the seconds after its deferral before which no worker resumes a task.

    :raises ConfigurationError: naming the option, if its value is not a number >= 0.
    """
    return float(_read(conf.getfloat, "min_deferral", MIN_DEFERRAL, unit="seconds"))


def max_trigger_bytes() -> int:
    """
    Return the size of a request above which it is sent by the worker instead of the triggerer.

    :raises ConfigurationError: naming the option, if its value is not a whole number >= 0.
    """
    return int(_read(conf.getint, "max_trigger_bytes", MAX_TRIGGER_BYTES, unit="bytes", whole=True))


def batch_poll_interval() -> float:
    """
    Return the seconds between two polls of a batch, at first.

    :raises ConfigurationError: naming the option, if its value is not a number within the bounds.
    """
    from airflow_provider_responses.batch.polling import MAX_POLL_INTERVAL, MIN_POLL_INTERVAL, POLL_INTERVAL

    bounds = {"at_least": MIN_POLL_INTERVAL, "at_most": MAX_POLL_INTERVAL}
    return float(_read(conf.getfloat, "batch_poll_interval", POLL_INTERVAL, unit="seconds", **bounds))


def _read(get: Callable[..., Any], option: str, default: float, *, at_least: float = 0, **expected: Any) -> Any:
    try:
        value = get(SECTION, option, fallback=default)
    except (AirflowConfigException, ValueError):  # it is no number
        value = conf.get(SECTION, option)
    return check_number(f"[{SECTION}] {option}", value, at_least=at_least, error=ConfigurationError, **expected)
