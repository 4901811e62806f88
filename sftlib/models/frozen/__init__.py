"""What is frozen, and what can therefore be computed once."""
