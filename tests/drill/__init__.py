"""The restore drill: a site full of mail is lost, brought back, and compared with what it was."""
