"""Video files in and out: decoding, sampling frames, writing. Nothing here depends on learning."""
