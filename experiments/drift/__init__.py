"""Which changes of a stream of images raise an alert, and which do not."""
