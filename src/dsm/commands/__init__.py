"""What the smaller verbs of the command line say and do; the work is done on the floors below."""
