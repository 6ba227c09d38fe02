# SQLAlchemy's tests with asyncpg.
# shellcheck shell=bash

driver=asyncpg
# shellcheck source=sqlalchemy.sh
. "$transparency/suites/sqlalchemy.sh"
