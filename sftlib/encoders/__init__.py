"""How the inputs of rows become what a model sees; one folder a modality."""
