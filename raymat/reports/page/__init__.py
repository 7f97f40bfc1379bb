"""The report: one HTML page of any set of runs, which needs nothing but a browser."""
