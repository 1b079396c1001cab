-- The role of the auditor in a service's database: it reads who may see what, and no text.
--
--     psql -v service=graph -d kith_graph -f deploy/postgres/auditor.sql
--     psql -v service=feed -d kith_feed -f deploy/postgres/auditor.sql
--
-- To be run as a superuser, after roles.sql and the migrations, and again after migrations that change
-- these tables. The role is kith_auditor in both databases; it has no password until you give it one
-- (\password kith_auditor). It can read the columns that are named here and change nothing: no body of
-- a post or comment, no name of a tag, no reason of a suspension.
--
-- `xmin` and `xmax` are the transactions that wrote and locked a row: from them the auditor knows that
-- a row has not changed in between.

\set ON_ERROR_STOP on

BEGIN;

SELECT 'CREATE ROLE kith_auditor LOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'kith_auditor')
\gexec

ALTER ROLE kith_auditor
  NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 8;
ALTER ROLE kith_auditor SET default_transaction_read_only = on;

GRANT CONNECT ON DATABASE :"DBNAME" TO kith_auditor;
GRANT USAGE ON SCHEMA public TO kith_auditor;

SELECT format('GRANT SELECT (%s) ON public.%I TO kith_auditor', columns, name)
FROM (VALUES
  ('graph', 'connections', 'id, user_a_id, user_b_id, status'),
  ('graph', 'endings', 'user_a_id, user_b_id, user_a_revision, user_b_revision'),
  ('graph', 'blocks', 'blocker_id, blocked_id'),
  ('graph', 'suspensions', 'user_id'),
  ('graph', 'suspension_changes', 'revision'),
  ('graph', 'erasures', 'user_id, revision'),
  ('graph', 'users', 'user_id, revision'),
  ('graph', 'connection_events', 'seq, actor_id, peer_id'),
  ('feed', 'posts',
   'author_id, id, created_at, audience, chosen_audience, moderated_at, deleted_at, xmin'),
  ('feed', 'post_audience_tags', 'author_id, post_id, tag_id, excluded, xmin'),
  ('feed', 'tags', 'owner_user_id, id, deleted_at, muted_until, xmin, xmax'),
  ('feed', 'user_tags', 'owner_user_id, tag_id, target_user_id, owner_revision, xmin'),
  ('feed', 'comments',
   'post_author_id, post_id, id, author_id, parent_id, hidden, moderated_at, deleted_at, xmin'),
  ('feed', 'erased_users', 'user_id, revision'),
  ('feed', 'content_events', 'seq, author_id')
) AS readable (service, name, columns)
WHERE service = :'service'
\gexec

COMMIT;

-- Without what roles.sql takes from everybody, this role could stop all changes.
DO $$
BEGIN
  IF has_function_privilege('kith_auditor', 'pg_advisory_lock(bigint)', 'EXECUTE') THEN
    RAISE WARNING 'kith_auditor can take advisory locks: run roles.sql of this version';
  END IF;
END $$;
