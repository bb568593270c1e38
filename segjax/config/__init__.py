"""What a config may say, and what a `type` in it names. Never imports jax."""
