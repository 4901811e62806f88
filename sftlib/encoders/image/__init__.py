"""Pictures: from files to what a model sees."""
