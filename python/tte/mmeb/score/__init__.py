"""Scores of vectors: rankings, metrics, averages; knows nothing of models and files of results."""
