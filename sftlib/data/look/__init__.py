"""Looking at rows before training: reports, duplicates, cleaning."""
