"""Sounds: from files to what a model hears."""
