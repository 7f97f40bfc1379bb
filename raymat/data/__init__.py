"""Crystals: readers, checks, splits, target scaling."""
