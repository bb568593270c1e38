"""What prediction writes: each kind a small writer, all of them listed in `kinds`."""
