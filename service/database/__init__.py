"""What both stores need from a database: connections, compiled statements, migrations, the lock.

Neither store knows the other, so what they share stands below them. Statements are built with
SQLAlchemy, compiled once, and run on the driver's own cursors: Core's executemany would cost the
projector more than half of its speed.
"""
