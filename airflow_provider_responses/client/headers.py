"""The headers of a request. No I/O."""

from __future__ import annotations

from airflow_provider_responses import __version__
from airflow_provider_responses.client.config import ClientConfig, RequestOptions


def build_headers(
    config: ClientConfig, options: RequestOptions | None = None, *, stream: bool = False
) -> dict[str, str]:
    """Return the headers of a request: the call's own override the connection's, and these the client's."""
    options = options or RequestOptions()
    headers = {
        "authorization": f"Bearer {config.api_key}",
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "accept-encoding": "gzip, deflate",
        "user-agent": f"airflow-provider-responses/{__version__}",
    }
    if config.app_url:
        headers["http-referer"] = config.app_url
    if config.app_title:
        headers["x-openrouter-title"] = config.app_title
    if options.metadata_level:
        headers["x-openrouter-metadata"] = options.metadata_level
    for extra in (config.extra_headers, options.headers or {}):
        headers.update({name.lower(): value for name, value in extra.items()})
    if options.accept:
        headers["accept"] = options.accept
    return headers
