"""Programs that are measured, or measured against. Each listens and prints its address."""
