"""What keeps the stores in order: erasure, retention, rebuilding, one at a time."""
