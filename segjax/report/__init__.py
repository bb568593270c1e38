"""What a run is like, as a page: scores, mistakes, what it was trained on, what it cost."""
