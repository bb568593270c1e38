"""What people correct and flag: kept durably, trained on, kept only where it helps."""
