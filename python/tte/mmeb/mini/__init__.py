"""The whole benchmark in miniature."""
