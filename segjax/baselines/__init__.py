"""Classical methods: what is fitted to examples, not trained, and stands where a network does."""
