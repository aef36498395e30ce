"""The contract between gateway replicas and workers, imported by both sides."""
