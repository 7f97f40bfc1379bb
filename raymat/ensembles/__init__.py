"""Choose members, combine their predictions, calibrate the spread."""
