"""The values of a row's ``_status``."""

from __future__ import annotations

from typing import Final

OK: Final = "ok"
FAILED: Final = "failed"  # the next attempt sends the request again
INVALID: Final = "invalid"  # the row itself is wrong, so that its request is never sent
MISSING: Final = "missing"  # the request has not been sent yet

# A response arrived, but the task does not accept it. The same request would most likely get the same response.
REFUSED: Final = "refused"
INCOMPLETE: Final = "incomplete"
INVALID_OUTPUT: Final = "invalid_output"
REJECTED: Final = frozenset({REFUSED, INCOMPLETE, INVALID_OUTPUT})
