"""The authors whose pages are read where the database is distributed.

Empty: a single database reads its pages from the ids that it is asked about, and `kith shards
create` fills the table.
"""

import sqlalchemy as sa
from alembic import op

revision = "feed_0006"
down_revision = "feed_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "authors",
        sa.Column("author_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("author_id", name="pk_authors"),
    )


def downgrade() -> None:
    op.drop_table("authors")
