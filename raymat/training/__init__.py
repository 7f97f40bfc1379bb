"""Fit one model to one split; metrics, checkpoints, prediction."""
