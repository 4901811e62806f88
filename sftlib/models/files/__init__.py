"""Folders that transformers opens, read strictly and written whole."""
