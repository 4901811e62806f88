"""The readers of `TaskDataset`, by what the files hold."""
