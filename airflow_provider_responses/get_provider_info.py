"""The description of the provider for Airflow. It is read at every start of Airflow, so nothing is imported here."""

from __future__ import annotations


# Long, since it is data.
def get_provider_info() -> dict[str, object]:
    """Return the description of the provider that Airflow reads at every start."""
    return {
        "package-name": "airflow-provider-responses",
        "name": "Responses API",
        "description": "Runs Responses API requests (OpenRouter and compatible servers) as Airflow tasks.",
        "integrations": [
            {
                "integration-name": "Responses API",
                "external-doc-url": "https://openrouter.ai/docs/api-reference/responses-api/overview",
                "tags": ["service"],
            }
        ],
        "hooks": [
            {
                "integration-name": "Responses API",
                "python-modules": ["airflow_provider_responses.hooks.responses"],
            }
        ],
        "operators": [
            {
                "integration-name": "Responses API",
                "python-modules": [
                    "airflow_provider_responses.operators.responses",
                    "airflow_provider_responses.operators.enrich",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": "Responses API",
                "python-modules": [
                    "airflow_provider_responses.triggers.responses",
                    "airflow_provider_responses.triggers.batches",
                ],
            }
        ],
        "task-decorators": [
            {
                "name": "responses",
                "class-name": "airflow_provider_responses.decorators.responses.responses_task",
            },
            {
                "name": "responses_enrich",
                "class-name": "airflow_provider_responses.decorators.enrich.responses_enrich_task",
            },
        ],
        # For Airflow 2.11, whose web server may not use other classes.
        "extra-links": [
            f"airflow_provider_responses.links.task_instance.{name}"
            for name in ("ResponseLink", "ResponsesLink", "ResultLink", "BatchLink")
        ],
        "config": {"responses": {"description": "Settings of the Responses API provider.", "options": _options()}},
        "connection-types": [
            {
                "connection-type": "responses",
                "hook-class-name": "airflow_provider_responses.hooks.responses.ResponsesHook",
                "hook-name": "Responses API (OpenRouter)",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "port"],
                    "relabeling": {"host": "Base URL", "password": "API key"},
                    "placeholders": {
                        "host": "https://openrouter.ai/api/v1 (leave empty for OpenRouter)",
                        "password": "your API key",
                    },
                },
                "conn-fields": _connection_fields(),
            }
        ],
    }


def _options() -> dict[str, object]:
    """Return the options of the section ``[responses]`` of Airflow's configuration."""
    return {
        "min_deferral": {
            "description": "Seconds after its deferral before which no worker resumes a task. If the scheduler needs "
            "longer than this to see the exit of the worker that deferred the task, it takes the task for killed.",
            "version_added": "0.1.0",
            "type": "float",
            "example": "15",
            "default": "5.0",
        },
        "max_trigger_bytes": {
            "description": "Size of a request in bytes above which it is sent by the worker instead of the triggerer. "
            "A request for the triggerer is stored, encrypted, in a column of Airflow's database (MySQL: at most "
            "65,535 bytes).",
            "version_added": "0.1.0",
            "type": "integer",
            "example": "1000000",
            "default": "48000",
        },
        "batch_poll_interval": {
            "description": "Seconds between two polls of a batch, at first. While nothing changes, the interval "
            "doubles up to 20 times this one.",
            "version_added": "0.1.0",
            "type": "float",
            "example": "60",
            "default": "30.0",
        },
        "otel_content": {
            "description": "Whether spans have the input and the output of a request. Whoever sees the spans then sees "
            "both.",
            "version_added": "0.1.0",
            "type": "boolean",
            "example": "True",
            "default": "False",
        },
        "otel_row_sample": {
            "description": "Share of the rows of an enrichment whose requests have a span, from 0 to 1.",
            "version_added": "0.1.0",
            "type": "float",
            "example": "0.01",
            "default": "0.0",
        },
    }


# Long, since it is data.
def _connection_fields() -> dict[str, object]:
    """Return the fields that a connection has beside Airflow's own; they are its extras."""
    return {
        "default_model": {
            "label": "Default model",
            "description": "Used by requests that name no model, for example openai/gpt-4o-mini.",
            "schema": {"type": ["string", "null"]},
        },
        "timeout": {
            "label": "Timeout (s)",
            "description": "Seconds for one call with all its retries. Default 600.",
            "schema": {"type": ["number", "null"]},
        },
        "connect_timeout": {
            "label": "Connect timeout (s)",
            "description": "Seconds to open a connection. Default 10.",
            "schema": {"type": ["number", "null"]},
        },
        "read_timeout": {
            "label": "Read timeout (s)",
            "description": "Seconds of silence from the server. Default 300.",
            "schema": {"type": ["number", "null"]},
        },
        "max_retries": {
            "label": "Retries",
            "description": "Resends within one call while nothing was billed. Default 3.",
            "schema": {"type": ["integer", "null"]},
        },
        "max_ambiguous_retries": {
            "label": "Ambiguous retries",
            "description": "Resends within one call after a send that may have been billed. Default 1.",
            "schema": {"type": ["integer", "null"]},
        },
        "max_retry_wait": {
            "label": "Longest wait (s)",
            "description": "A longer wait is left to Airflow's retries. Default 60.",
            "schema": {"type": ["number", "null"]},
        },
        "app_title": {
            "label": "App title",
            "description": "Shown in OpenRouter's rankings and activity.",
            "schema": {"type": ["string", "null"]},
        },
        "app_url": {
            "label": "App URL",
            "description": "Shown in OpenRouter's rankings and activity.",
            "schema": {"type": ["string", "null"]},
        },
        "extra_headers": {
            "label": "Extra headers",
            "description": 'A JSON object, for example {"X-Team": "data"}.',
            "schema": {"type": ["string", "null"]},
        },
        "dialect": {
            "label": "Dialect",
            "description": "openrouter or open. Default: openrouter for openrouter.ai, else open.",
            "schema": {"type": ["string", "null"], "enum": ["openrouter", "open", None]},
        },
        "proxy": {
            "label": "Proxy",
            "description": "URL of a proxy. Default: the worker's environment variables.",
            "schema": {"type": ["string", "null"]},
        },
        "ca_bundle": {
            "label": "CA bundle",
            "description": "File on the worker with the certificate authorities to trust (PEM).",
            "schema": {"type": ["string", "null"]},
        },
        "allow_insecure_http": {
            "label": "Allow plain http",
            "description": "Send the key unencrypted to a host that is not this machine.",
            "schema": {"type": ["boolean", "null"]},
        },
    }
