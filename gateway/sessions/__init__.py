"""The upstream-session cache: which conversations Lingma holds, in which session of which instance."""
