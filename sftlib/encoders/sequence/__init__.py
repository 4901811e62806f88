"""Sequences of letters: DNA, RNA, proteins, molecules; read through a tokenizer, a model's own or one made for it."""
