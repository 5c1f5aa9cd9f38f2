"""Encoders, their heads and their weights. Knows no files of videos and no training."""
