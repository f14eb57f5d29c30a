#!/bin/sh
# Makes the logins of Sallyport's roles, with the passwords that lie in files. The
# roles exist already. Doing it again sets the passwords anew.
set -eu
export SECRETS="${SECRETS:-/run/secrets}"

# psql reads the files itself, so that no password is an argument of a program.
psql --no-psqlrc --set ON_ERROR_STOP=1 --quiet --username "${POSTGRES_USER:-postgres}" --dbname "${POSTGRES_DB:-sallyport}" <<'SQL'
\set writer `cat "$SECRETS/writer-password"`
\set sealer `cat "$SECRETS/sealer-password"`
\set auditor `cat "$SECRETS/auditor-password"`
\set migrator `cat "$SECRETS/migrator-password"`
ALTER ROLE sallyport_writer PASSWORD :'writer';
ALTER ROLE sallyport_sealer PASSWORD :'sealer';
ALTER ROLE sallyport_auditor PASSWORD :'auditor';
SELECT 'CREATE ROLE migrator LOGIN' WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'migrator')
\gexec
ALTER ROLE migrator PASSWORD :'migrator';
GRANT sallyport_owner TO migrator;
SQL
