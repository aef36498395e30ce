"""Lingma, through workers: the local binary that only an IDE plugin speaks to."""
