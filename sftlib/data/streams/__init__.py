"""Shards of a stream: a file a form they come in."""
