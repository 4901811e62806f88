"""Tasks over sounds, one file each."""
