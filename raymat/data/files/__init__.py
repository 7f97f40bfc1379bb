"""Crystals of files of every kind: folders, archives, collections, tables, ASE databases."""
