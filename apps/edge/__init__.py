"""Doors shared by all apps: errors, request ids, pagination, database units."""
