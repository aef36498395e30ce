"""Getting the Lingma binary onto a machine that has none."""
