"""The documentation, played as a reader would: its commands typed, its programs saved and run."""
