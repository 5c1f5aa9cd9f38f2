"""Encoders, their heads and their weights; independent of video files and training."""
