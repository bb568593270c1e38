"""HTML pages that need nothing but themselves: frame, look, pictures, plots, script."""
