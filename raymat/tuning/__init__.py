"""What a search is: space, trial, study. How it is scheduled is the business of `cluster`."""
