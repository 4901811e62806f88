"""Texts: tokenizers, windows, conversations."""
