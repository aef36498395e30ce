"""Who may do what: client keys, and the tiers of client, admin and metrics."""
