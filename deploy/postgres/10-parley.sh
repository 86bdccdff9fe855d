#!/bin/sh
# Runs once, when PostgreSQL's data directory is new: four roles, one database, the extensions. The owner makes the
# schema and is nobody's superuser; the product's role owns nothing (manage.py setup_database grants it what it may do);
# the operators' reads alone; the search role logs in nowhere, and owns functions that the owner makes for it.
set -eu

psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set owner_password="$POSTGRES_OWNER_PASSWORD" --set app_password="$POSTGRES_APP_PASSWORD" \
    --set operator_password="$POSTGRES_OPERATOR_PASSWORD" <<'SQL'
CREATE ROLE parley_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'owner_password';
CREATE ROLE parley_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'app_password';
CREATE ROLE parley_operator LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'operator_password';
CREATE ROLE parley_search NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
GRANT parley_search TO parley_owner WITH INHERIT FALSE, SET TRUE;
CREATE DATABASE parley OWNER parley_owner;
\connect parley
ALTER SCHEMA public OWNER TO parley_owner;
CREATE EXTENSION IF NOT EXISTS vector;
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS unaccent;
SQL
