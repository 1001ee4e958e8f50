"""Runs: traces and vectors of data sets, block by block, into folders of results, and their scores."""
