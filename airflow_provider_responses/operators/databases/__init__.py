"""Databases behind a ``DbApiHook``: queries, loads, and how each kind of database does them."""
