"""What the loop of feedback does to a run: with corrections of a new kind, and with poison."""
