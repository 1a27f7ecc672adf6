"""``GET /responses`` shows at no cost whether a server has the path."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from airflow_provider_responses.exceptions import TransportError, UnauthorizedResponseError

from .wire import Flavour, Wire


@pytest.mark.parametrize(
    ("response", "is_there"),
    [
        ((405, {"json": {"detail": "Method Not Allowed"}}), True),
        ((200, {"json": {"object": "list", "data": [], "error": None}}), True),
        ((404, {"json": {"detail": "Not Found"}}), False),
        ((200, {"json": {"error": "Unexpected endpoint"}}), None),
        ((200, {"text": "<html>a page for every path</html>"}), None),
        ((400, {"json": {"error": {"message": "no"}}}), None),
        ((403, {"json": {"error": {"message": "no"}}}), None),
        ((307, {"headers": {"location": "https://elsewhere.example.com"}}), None),
        ((500, {}), None),
        ((501, {}), None),
    ],
    ids=str,
)
def test_a_response_shows_whether_the_path_exists(
    flavour: Flavour, response: tuple[int, dict[str, Any]], is_there: bool | None
) -> None:
    status, content = response
    wire = Wire(httpx.Response(status, **content))
    client = flavour.on(wire, max_retries=0, max_ambiguous_retries=0, base_url="https://llm.example.com/v1")
    assert client.get("probe") is is_there
    assert (wire.requests[0].method, wire.requests[0].url.path) == ("GET", "/v1/responses")
    assert wire.requests[0].content == b""


def test_a_refused_key_and_a_missing_server_are_errors(flavour: Flavour) -> None:
    client = flavour.on(Wire(httpx.Response(401), httpx.ConnectError("refused")), max_retries=0)
    with pytest.raises(UnauthorizedResponseError):
        client.get("probe")
    with pytest.raises(TransportError):
        client.get("probe")
