"""A PostgreSQL of the tests' own."""

from tests.e2e.postgres import USER, Postgres, running

__all__ = ["USER", "Postgres", "running"]
