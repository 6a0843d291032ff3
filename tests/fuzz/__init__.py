"""Made-up bodies and requests without end, and what has to be true of each."""
