"""Tasks that only texts have, one file each."""
