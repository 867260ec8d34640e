"""Settings of a process that calls the filters: the plugin sets what it sets in a real LMS."""
from openedx_webhooks.settings.common import plugin_settings

SECRET_KEY = "for tests only"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "openedx_webhooks", "common.djangoapps.student"]
MIGRATION_MODULES = {"student": None}
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
LOGGING = {"version": 1, "disable_existing_loggers": True, "root": {"level": "CRITICAL"}}  # failing filters are what is tested


class _Settings:
    """What the plugin may write to."""


_settings = _Settings()
plugin_settings(_settings)
OPEN_EDX_FILTERS_CONFIG = _settings.OPEN_EDX_FILTERS_CONFIG
