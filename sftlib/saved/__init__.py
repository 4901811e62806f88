"""The saved folder: its layout, its record, and the look at what was written."""
