"""Which columns a task needs, and which column plays which role."""
