"""What augmentation costs, by op, and nnU-Net's set beside its own library."""
