# SQLAlchemy's tests with asyncpg.
# shellcheck shell=bash disable=SC2034,SC2154

driver=asyncpg
# shellcheck source=sqlalchemy.sh
. "$transparency/suites/sqlalchemy.sh"
