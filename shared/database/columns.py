"""What the tables of both services have in common."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, DateTime, MetaData, func


def new_metadata() -> MetaData:
    """Return metadata that names every constraint, so that migrations can refer to it."""
    return MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        }
    )


def moment(name: str, *, nullable: bool = False) -> Column[datetime]:
    """Return a `timestamptz` column; by default the time of the transaction."""
    default = None if nullable else func.now()
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default)


def big_id(name: str, *, primary_key: bool = False) -> Column[int]:
    """Return a `bigint` column that must be set."""
    return Column(name, BigInteger, nullable=False, primary_key=primary_key, autoincrement=False)
