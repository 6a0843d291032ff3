"""Alembic's entry: the caller hands in a connection with its transaction already begun."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=True,
)
context.run_migrations()
