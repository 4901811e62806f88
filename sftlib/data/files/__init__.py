"""Readers: from a file, a folder or a table to columns."""
