"""Settings of the stand-in, from the environment. The bus settings have the names that they have in a real LMS."""
import os

SECRET_KEY = "for tests only"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "openedx_events",
    "edx_event_bus_kafka",
    "openedx_webhooks",
    "lms",
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.mysql",
        "HOST": os.environ.get("LMS_MYSQL_HOST", "127.0.0.1"),
        "PORT": os.environ.get("LMS_MYSQL_PORT", "3306"),
        "NAME": os.environ.get("LMS_MYSQL_DATABASE", "openedx"),
        "USER": os.environ.get("LMS_MYSQL_USER", "lms"),
        "PASSWORD": os.environ.get("LMS_MYSQL_PASSWORD", "lms"),
    }
}

EVENTS_SERVICE_NAME = "lms"
EVENT_BUS_PRODUCER = "edx_event_bus_kafka.create_producer"
EVENT_BUS_PRODUCER_CONFIG = {}  # publish fills it for the events that it sends
EVENT_BUS_TOPIC_PREFIX = os.environ.get("EVENT_BUS_TOPIC_PREFIX", "dev")
EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS = os.environ.get("EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS")
EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL = os.environ.get("EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL")
EVENT_BUS_KAFKA_POLL_INTERVAL_SEC = 0.1
EVENT_BUS_KAFKA_AUDIT_LOGGING_ENABLED = False

OPENEDX_TELEMETRY = []  # no monitoring service

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
