"""The verbs: each a function that takes settings, does the work and returns what came of it."""
