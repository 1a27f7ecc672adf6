"""uvicorn's HTTP protocol, with a function for the application to close the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_responses.sandbox.http.wire import CLOSE

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope


class ClosableProtocol(H11Protocol):
    """Adds a function that closes the connection to the extensions of the ASGI scope."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        app = self.app

        async def closable(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            extended: Any = scope
            extended.setdefault("extensions", {})[CLOSE] = self.transport.close
            await app(scope, receive, send)

        self.app = closable
