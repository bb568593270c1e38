"""Many runs that answer one question, all lists of runs: studies, searches, cross-validation."""
