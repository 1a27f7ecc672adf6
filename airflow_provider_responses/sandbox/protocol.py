"""uvicorn's HTTP protocol, with a way for the application to close the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_responses.sandbox.wire import CLOSE

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope


class ClosableProtocol(H11Protocol):
    """Hands the application, in the scope's extensions, a function that closes the connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        app = self.app

        async def closable(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            extended: Any = scope
            extended.setdefault("extensions", {})[CLOSE] = self.transport.close
            await app(scope, receive, send)

        self.app = closable
