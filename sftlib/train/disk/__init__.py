"""Checkpoints: written whole, verified, rotated, locked."""
