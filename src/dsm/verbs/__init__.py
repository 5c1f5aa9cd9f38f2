"""The verbs: each is a function that takes settings, does the work and returns a result."""
