"""Model-level explanations: small graphs that a classifier of crystals is sure about (XGNN)."""
