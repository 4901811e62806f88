"""How rows lie inside a model, and what it takes to lay them so."""
