"""Two schema histories, one for each service's database; Alembic runs them by their paths."""
