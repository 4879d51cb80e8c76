"""What shows that the mail system does what it says."""
