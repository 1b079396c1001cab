#!/bin/sh
# Makes both databases and their roles in a new PostgreSQL. Its image runs this once, at the first
# start. The passwords are in OWNER_PASSWORD, GRAPH_PASSWORD and FEED_PASSWORD.
set -eu

set_up() {
  createdb "kith_$1"
  psql --quiet --no-psqlrc -d "kith_$1" -v service="$1" -f "${ROLES_SQL:-/roles.sql}"
  # psql takes the passwords from the environment: arguments can be read by everybody on a machine.
  psql --quiet --no-psqlrc -d "kith_$1" -v ON_ERROR_STOP=1 \
    -v owner="kith_$1_owner" -v serving="kith_$1" -v variable="$2" <<'SQL'
\getenv owner_password OWNER_PASSWORD
\getenv serving_password :variable
ALTER ROLE :"owner" PASSWORD :'owner_password';
ALTER ROLE :"serving" PASSWORD :'serving_password';
SQL
}

# Only superusers work in the databases that every server has.
psql --quiet --no-psqlrc -d postgres -v ON_ERROR_STOP=1 \
  -c 'REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC'
set_up graph GRAPH_PASSWORD
set_up feed FEED_PASSWORD
