"""Access to PostgreSQL: reads, writes, replicas, what tables have in common, and one of our own."""
