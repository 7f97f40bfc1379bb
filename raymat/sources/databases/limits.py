"""Limits of a fetch that the command line shows; they load nothing."""

MAX_ATOMS = 500  # of a cell; beyond, neighbor lists of a whole set no longer fit a laptop
PAGE_SIZE = 500  # entries; the most that the reference server gives unless told otherwise
REQUESTS_PER_SECOND = 2.0
PATIENCE_S = 600.0  # for which one request is repeated
