"""What a program costs: FLOPs, bytes, time."""
