"""Services we call. Each package builds requests, decodes answers and runs attempts; none knows a client."""
