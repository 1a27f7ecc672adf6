"""Everything that outlives one call: script, ledger, response cache, rate limits, faults, prices and the key."""
