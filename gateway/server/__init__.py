"""What is ours in Hypercorn: each module says what it mends or spares, and is applied before serving."""
