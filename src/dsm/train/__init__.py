"""Training: settings, the loop, optimisers, what is watched while it goes."""
