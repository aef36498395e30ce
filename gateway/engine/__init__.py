"""The one orchestration: admission, routing, attempts, legal ends."""
