"""Evaluation of encoders: features, retrieval, probes and bias. Independent of training."""
