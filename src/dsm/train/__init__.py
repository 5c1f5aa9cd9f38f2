"""Training: settings, the loop, optimisers and monitoring."""
