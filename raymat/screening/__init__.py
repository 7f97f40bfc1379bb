"""Which candidates pass a criterion, and with what probability."""
