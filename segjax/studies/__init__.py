"""Many runs that answer one question: studies, searches, cross-validation; all lists of runs."""
