"""Training: the loop, its checkpoints, its run folder, its progress on the terminal."""
