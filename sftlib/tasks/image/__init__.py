"""Tasks over pictures, one file each."""
