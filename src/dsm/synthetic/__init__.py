"""MotionScenes: made videos in which what moves and where it happens are known apart."""
