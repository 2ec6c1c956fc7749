"""Many songs in one call: which they are (inputs), where they go (plan), the work, and what is told of it."""
