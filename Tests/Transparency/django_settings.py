"""Settings for the tests of Django itself, and a runner that writes their outcomes as outcomes.py does."""

import os
from unittest import TextTestResult

from django.test.runner import DiscoverRunner

import outcomes


def _database(name):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
        "OPTIONS": {"server_side_binding": os.environ.get("SERVER_SIDE_BINDING") == "1"},
        "TEST": {"NAME": name},
    }


DATABASES = {"default": _database("django_default"), "other": _database("django_other")}
SECRET_KEY = "of no use to anybody"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False


class Result(TextTestResult):
    def addSuccess(self, test):
        super().addSuccess(test)
        outcomes.write(test.id(), "passed")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        outcomes.write(test.id(), "failed", self._exc_info_to_string(error, test))

    def addError(self, test, error):
        super().addError(test, error)
        outcomes.write(test.id(), "error", self._exc_info_to_string(error, test))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        outcomes.write(test.id(), "skipped", reason)

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        outcomes.write(test.id(), "xfailed")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        outcomes.write(test.id(), "xpassed")

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            outcomes.write(subtest.id(), "failed", self._exc_info_to_string(error, test))


class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Result


TEST_RUNNER = "django_settings.Runner"
