"""What an encoder is worth: features, retrieval, probes. Knows no training."""
