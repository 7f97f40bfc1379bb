"""How much of a source may be unusable."""

MAX_REJECTED = 0.05
"""Share of a source's rows that may be unusable, where the user names no other."""
