"""What people look at: colours, figures, progress."""
