"""What object detection needs of tensors: boxes, losses over sets and over places, and a head of our own."""
