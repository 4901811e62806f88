"""Models: opening them, laying rows out in them, attention, dropout, precision."""
