"""State that outlives a request: keys, streams, leases and turn logs, in Redis or in memory."""
