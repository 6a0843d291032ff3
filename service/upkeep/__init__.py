"""What keeps the stores in order, and looks for what is missing in them.

Erasure, retention and rebuilding go one at a time (`upkeep`). Backups, reading the log through for
damage (`scrub`) and looking for who went quiet (`silence`) go beside them.
"""
