"""The accounts a worker may use: who they are, and the login state that travels with them."""
