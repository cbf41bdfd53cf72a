"""Scores: features, statistics, metrics, mode coverage, and the protocol that each score carries."""
