-- Two roles for a service's database: one that owns and migrates it, and one that serves.
--
--     psql -v service=graph -d kith_graph -f deploy/postgres/roles.sql
--     psql -v service=feed -d kith_feed -f deploy/postgres/roles.sql
--
-- To be run as a superuser, before the first migration or any time after it, as often as one likes.
-- The roles are kith_graph_owner and kith_graph, and so for feed; they have no password until
-- you give them one (\password kith_graph). `make migrate` takes the owner's URL, and the
-- service the other.
--
-- The serving role, also when it is stolen, can read and change rows, and no more: not empty or drop
-- a table, not create anything, not change the record of migrations, not read another schema, not reach
-- the other service's database. Two things are not in the power of this script. PostgreSQL lets every
-- role that may delete rows of a table also lock the table; a session that does so can be ended by
-- its owner or a superuser (pg_terminate_backend). And every role may connect to the databases
-- `postgres` and `template1` unless the server forbids it: a warning at the end says how. init.sh,
-- whose server is Kith's alone, does so.

\set ON_ERROR_STOP on
\set owner kith_ :service _owner
\set serving kith_ :service

BEGIN;

SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY[:'owner', :'serving']) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

ALTER ROLE :"serving" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;

-- What these roles are refused stays out of the server's log but for one line that names it: a DETAIL
-- quotes rows, and a STATEMENT has the texts that were sent. Who may not set that for a role, as at
-- those who rent databases out, sets it for the server.
SELECT format('ALTER ROLE %I SET %I = %L', role, setting, value)
FROM unnest(ARRAY[:'owner', :'serving']) AS role,
     (VALUES ('log_error_verbosity', 'terse'), ('log_min_error_statement', 'panic'),
             ('log_parameter_max_length', '0')) AS quiet (setting, value)
WHERE has_parameter_privilege(setting, 'SET')
\gexec

-- Where the superuser is not quite one, as at those who rent databases out, this is needed to give
-- things to the owner.
GRANT :"owner" TO CURRENT_USER;

ALTER DATABASE :"DBNAME" OWNER TO :"owner";
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO :"serving";
REVOKE ALL ON SCHEMA public FROM PUBLIC;
-- The owner's too, though it owns the database: checks of foreign keys are made in its name, and a
-- copy of the database may have another owner.
GRANT ALL ON SCHEMA public TO :"owner";
GRANT USAGE ON SCHEMA public TO :"serving";

-- What was migrated by another role. Indexes and sequences go with their tables.
SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, :'owner')
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
  AND relowner <> :'owner'::regrole
\gexec

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :"serving";
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO :"serving";

-- The record of migrations, which a service only reads. It is made here as Alembic would make it, or
-- the serving role would get the rights of every table that a migration creates.
CREATE TABLE IF NOT EXISTS public.alembic_version (
  version_num varchar(32) NOT NULL,
  CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
ALTER TABLE public.alembic_version OWNER TO :"owner";
REVOKE ALL ON public.alembic_version FROM :"serving";
GRANT SELECT ON public.alembic_version TO :"serving";

-- Large objects, which everybody may create and Kith does not use.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;

-- Advisory locks, which everybody may take of any number. The services, and migrations, make changes
-- wait by them, so a role that only reads could stop all changes, such as the auditor's.
SELECT format(command, oid::regprocedure, :'owner', :'serving')
FROM pg_proc,
     unnest(ARRAY['REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC',
                  'GRANT EXECUTE ON FUNCTION %s TO %I, %I']) AS command
WHERE pronamespace = 'pg_catalog'::regnamespace AND proname LIKE '%advisory%'
\gexec

-- What later migrations create.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"serving";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
  GRANT USAGE, SELECT ON SEQUENCES TO :"serving";

COMMIT;

SELECT format(
  'DO %L',
  format(
    'BEGIN RAISE WARNING ''%%'', %L; END',
    format(
      '%s can also connect to other databases. To forbid it to all roles that have no right of their'
      ' own there: REVOKE CONNECT, TEMPORARY ON DATABASE %s FROM PUBLIC;',
      :'serving', string_agg(quote_ident(datname), ', ' ORDER BY datname)
    )
  )
)
FROM pg_database
WHERE datallowconn AND datname <> current_database()
  AND has_database_privilege(:'serving', oid, 'CONNECT')
HAVING count(*) > 0
\gexec
