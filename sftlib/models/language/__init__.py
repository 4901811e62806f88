"""Vocabularies: output layers, their loss in chunks, generating."""
