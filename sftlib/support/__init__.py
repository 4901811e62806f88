"""Small helpers that anyone may import."""
