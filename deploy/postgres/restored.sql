-- Keeps ids of what was lost from being given again, in a service's database after a restore.
--
--     psql -d kith_feed -f deploy/postgres/restored.sql
--
-- To be run by the database's owner or a superuser before a service uses what was restored from a
-- backup, and once for each restore. Apps may still know posts and tags that the backup does not have.
-- With the next id an author's post could go to the people of another tag than they chose, and a
-- deletion to another post. Sequences go on a million further, so that is for backups after which fewer
-- of each were made.

\set ON_ERROR_STOP on

SELECT sequencename, setval(format('%I.%I', schemaname, sequencename), coalesce(last_value, 0) + 1000000)
FROM pg_sequences WHERE schemaname = 'public';
