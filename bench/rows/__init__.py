"""Rows on disk, and what makes two of them comparable."""
