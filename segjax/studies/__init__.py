"""Many runs that answer one question: studies, searches, cross-validation. All are lists of runs."""
