"""Crystals from files of every kind: folders, archives, collections, ASE databases."""
