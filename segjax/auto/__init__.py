"""A config derived from the data: rules, each with its reason."""
