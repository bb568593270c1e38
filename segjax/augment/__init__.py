"""What changes training images: on the device, each example with a key of its own."""
