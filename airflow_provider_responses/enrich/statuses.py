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
LOW_SCORE: Final = "low_score"  # below the judge's `min_score`
REJECTED: Final = frozenset({REFUSED, INCOMPLETE, INVALID_OUTPUT, LOW_SCORE})

# Of a row in the result of an attempt that stopped. The next attempt continues with the next step.
ESCALATING: Final = "escalating"  # its response is not accepted, and was not sent to the larger model yet
JUDGING: Final = "judging"  # its response has no score yet, and the judge has a `min_score`
