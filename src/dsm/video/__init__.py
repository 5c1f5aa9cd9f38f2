"""Video files in and out: decoding, sampling of frames, writing. Knows no learning."""
