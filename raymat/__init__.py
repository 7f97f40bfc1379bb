"""raymat: tune, trust and apply crystal-property models on Ray."""

__version__ = "0.1.0"
