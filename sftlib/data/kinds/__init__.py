"""What a value of each role must be: one file a family of kinds."""
