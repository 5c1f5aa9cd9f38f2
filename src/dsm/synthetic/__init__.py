"""MotionScenes: synthetic videos with separate labels for the motion and for the scene behind it."""
