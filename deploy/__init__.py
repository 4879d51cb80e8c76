"""What an operator runs: one file a job."""
