"""Crystals from the public databases, over OPTIMADE and the Materials Project's own interface."""
