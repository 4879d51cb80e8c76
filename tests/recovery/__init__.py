"""What is lost, and who has gone: backups, restores, archives, hand-overs, over the wire."""
