"""The vocabulary: what a turn asks and what a stream says. Pure data: no I/O, no clock, no settings."""
