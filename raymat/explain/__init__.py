"""What models learned: graphs a classifier is sure about (XGNN), contributions of sites."""
