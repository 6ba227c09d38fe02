"""Libraries that many applications stand on, each doing what it usually does: asyncpg, SQLAlchemy, Django."""

import asyncio
import datetime
import os

import asyncpg
import sqlalchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from endpoint import PORT, EndpointTestCase, direct, main


class Asyncpg(EndpointTestCase):
    """Speaks the protocol itself, in binary, with prepared statements throughout."""

    def test_a_pool_at_work(self):
        async def work():
            async with asyncpg.create_pool(min_size=4, max_size=8) as pool:
                await pool.execute("DROP TABLE IF EXISTS asyncpg_test")
                await pool.execute("CREATE TABLE asyncpg_test (n int PRIMARY KEY, tags text[], at timestamptz)")
                at = datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc)

                async def one(n):
                    async with pool.acquire() as connection, connection.transaction():
                        await connection.execute("INSERT INTO asyncpg_test VALUES ($1, $2, $3)", n, [str(n), "x"], at)
                        row = await connection.fetchrow("SELECT * FROM asyncpg_test WHERE n = $1", n)
                        self.assertEqual(tuple(row), (n, [str(n), "x"], at))

                await asyncio.gather(*(one(n) for n in range(200)))
                async with pool.acquire() as connection:
                    with self.assertRaises(asyncpg.UniqueViolationError):
                        await connection.execute("INSERT INTO asyncpg_test VALUES (1)")
                    await connection.copy_records_to_table("asyncpg_test", records=[(1000 + n, None, at) for n in range(500)])
                    await connection.executemany("UPDATE asyncpg_test SET n = -n WHERE n = $1", [(n,) for n in range(100)])
                    async with connection.transaction():
                        total = 0
                        async for row in connection.cursor("SELECT n FROM asyncpg_test", prefetch=10):
                            total += 1
                    self.assertEqual(total, 700)
                    statement = await connection.prepare("SELECT sum(n) FROM generate_series(1, $1) n")
                    for n in range(50):
                        self.assertEqual(await statement.fetchval(n) or 0, n * (n + 1) // 2)
                    with self.assertRaises(asyncio.TimeoutError):
                        await connection.execute("SELECT pg_sleep(600)", timeout=0.2)
                    self.assertEqual(await connection.fetchval("SELECT 1"), 1)
                    await connection.execute("DROP TABLE asyncpg_test")

        asyncio.run(work())


class SQLAlchemy(EndpointTestCase):
    def test_the_orm_and_reflection(self):
        class Base(DeclarativeBase):
            pass

        class Book(Base):
            __tablename__ = "sqlalchemy_book"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str]

        engine = sqlalchemy.create_engine(f"postgresql+psycopg://app@127.0.0.1:{PORT}/app", pool_pre_ping=True)
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(Book(title=f"Volume {n}") for n in range(100))
            session.commit()
            books = session.scalars(sqlalchemy.select(Book).where(Book.title.like("%7"))).all()
            self.assertEqual(len(books), 10)
            books[0].title = "Changed"
            session.flush()
            session.rollback()
            self.assertEqual(books[0].title, "Volume 7")
        self.assertEqual([column["name"] for column in sqlalchemy.inspect(engine).get_columns("sqlalchemy_book")],
                         ["id", "title"])
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for _ in range(20):
                self.assertEqual(connection.scalar(sqlalchemy.text("SELECT 1")), 1)
        with engine.connect().execution_options(stream_results=True, max_row_buffer=10) as connection:
            self.assertEqual(len(list(connection.execute(sqlalchemy.select(Book)))), 100)
        Base.metadata.drop_all(engine)
        engine.dispose()


class Django(EndpointTestCase):
    def test_models_and_migrations(self):
        import django
        from django.conf import settings

        settings.configure(
            DATABASES={"default": {
                "ENGINE": "django.db.backends.postgresql", "NAME": "app", "USER": "app", "HOST": "127.0.0.1",
                "PORT": str(PORT), "CONN_MAX_AGE": None, "OPTIONS": {"passfile": os.environ["PGPASSFILE"]},
            }},
            INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        )
        django.setup()
        from django.contrib.auth.models import Group, User
        from django.core.management import call_command
        from django.db import IntegrityError, connection, transaction

        call_command("migrate", verbosity=0)
        for n in range(20):
            User.objects.create_user(f"user{n}", password="x")
        self.assertEqual(User.objects.filter(username__endswith="1").count(), 2)
        with transaction.atomic():
            user = User.objects.select_for_update().get(username="user3")
            with self.assertRaises(IntegrityError), transaction.atomic():
                User.objects.create_user("user3")
            user.groups.add(Group.objects.create(name="readers"))
        self.assertEqual(list(User.objects.filter(groups__name="readers").values_list("username", flat=True)), ["user3"])
        self.assertEqual(sum(1 for _ in User.objects.iterator(chunk_size=5)), 20)
        call_command("migrate", "auth", "zero", verbosity=0)
        call_command("migrate", "contenttypes", "zero", verbosity=0)
        connection.close()
        with direct(user="app") as past:
            past.execute("DROP TABLE django_migrations")


if __name__ == "__main__":
    main()
