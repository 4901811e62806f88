"""One call of `fit`, from options to a tuned model."""
