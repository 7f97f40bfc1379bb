"""Crystals from outside: fetched from a service, or imported from files."""
