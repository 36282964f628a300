"""The table of sealed columns is complete, so that no re-sealing forgets one."""

from uuid import UUID

from sqlalchemy import LargeBinary, Uuid

from idp.models import Base
from idp.sealed import COLUMNS, SEALED, count_versions
from tests.support.context import Context, context, new_organization, new_person

__all__ = ["context"]

FIRST = UUID(int=0)
HASHES = ("hash", "_hash", "_index")  # what other binary columns end in: nothing that could be opened
HASHES_TOO = {
    *(("consents", "version"), ("consent_texts", "version"), ("agreements", "version")),  # of the terms shown
    *(("login_failures", "subject"), ("spent", "key")),
    *(("audit", "mark"), ("audit_head", "mac"), ("audit_anchors", "mac")),  # under the root key, which never changes
}


def test_sealed_columns_are_those_of_the_models() -> None:
    found = {
        (table.name, column.name)
        for table in Base.metadata.tables.values()
        for column in table.columns
        if column.name.startswith("sealed_")
    }
    assert set(SEALED) == found
    assert len(SEALED) == len(found)


def test_binary_column_is_sealed_or_a_hash() -> None:
    """A column that holds something sealed under another name would escape."""
    for table in Base.metadata.tables.values():
        for column in table.columns:
            place = (table.name, column.name)
            if isinstance(column.type, LargeBinary) and place not in {*SEALED, *HASHES_TOO}:
                assert column.name.endswith(HASHES), f"{table.name}.{column.name} is neither sealed nor a hash"


def test_sealed_column_belongs_to_a_row_with_an_id() -> None:
    for name, _ in SEALED:
        primary = list(Base.metadata.tables[name].primary_key.columns)
        assert [column.name for column in primary] == ["id"]
        assert isinstance(primary[0].type, Uuid)


def test_every_sealed_column_opens_where_the_table_says(context: Context) -> None:
    """The blob of each column is bound to the very names of the table of data."""
    with context.database.session() as session:
        new_person(context, session, phone="17412345678", email="zhang@example.test", claims={"locale": "zh-CN"})
        new_person(context, session, level=2)
        new_organization(context, session)
    with context.database.session() as session:
        assert set(count_versions(session)) == {1}
        for column in COLUMNS:
            assert column.count(session) >= 1, column.place
            assert column.count_versions(session)[1] >= 1, column.place
            assert all(row.blob is None for row in column.read_on(session, FIRST, 1, 100))
            for row in column.read_on(session, FIRST, 2, 100):
                if row.blob is not None:
                    assert context.vault.unseal(column.table, column.name, row.id, row.blob)
