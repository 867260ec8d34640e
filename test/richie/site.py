"""usage: site.py FOLDER CODE...

Serves a Richie portal with a published page for each of the course codes, on a free port; its address is the first line of output.
All is Richie's own but the settings, which are those of its sandbox, as far as the portal's API needs them. The file "secrets" of the
folder has the portal's secrets, one a line: it is read at each request, where a portal of people's would be started anew.
"""

import os
import sys
import threading

import django
from django.conf import settings
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.urls import include, path, re_path
from richie.apps.courses import settings as richie

folder, codes = sys.argv[1], sys.argv[2:]


class Secrets:
    """The lines of a file as they are now."""

    def __iter__(self):
        with open(os.path.join(folder, "secrets"), encoding="utf-8") as file:
            return iter(file.read().splitlines())


class FromModels(dict):
    """Says of every app that its tables are to be made from its models: its migrations would take 15 s."""

    def __contains__(self, app):
        return True

    def __getitem__(self, app):
        return None


settings.configure(
    **{
        **{name: getattr(richie, name) for name in dir(richie) if name.isupper()},
        "ALLOWED_HOSTS": ["*"],
        "CACHES": {
            name: {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": name} for name in ("default", "search")
        },
        "CMS_LANGUAGES": {
            "default": {"public": True, "hide_untranslated": False, "redirect_on_fallback": False, "fallbacks": ["en", "fr"]},
            1: [{"public": True, "code": code, "name": code} for code in ("en", "fr")],
        },
        "CMS_PERMISSION": True,
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(folder, "db.sqlite3")}},
        "DEFAULT_AUTO_FIELD": "django.db.models.AutoField",
        "INSTALLED_APPS": (
            "richie.apps.search",
            "richie.apps.courses",
            "richie.apps.core",
            "richie.plugins.glimpse",
            "richie.plugins.html_sitemap",
            "richie.plugins.large_banner",
            "richie.plugins.nesteditem",
            "richie.plugins.plain_text",
            "richie.plugins.section",
            "richie.plugins.simple_picture",
            "richie.plugins.simple_text_ckeditor",
            "richie.plugins.slider",
            "richie.plugins.lti_consumer",
            "richie",
            "dj_pagination",
            "parler",
            "rest_framework",
            "djangocms_admin_style",
            "djangocms_googlemap",
            "djangocms_link",
            "djangocms_picture",
            "djangocms_text_ckeditor",
            "djangocms_video",
            "cms",
            "menus",
            "sekizai",
            "treebeard",
            "filer",
            "easy_thumbnails",
            "dal",
            "dal_select2",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.admin",
            "django.contrib.sites",
            "django.contrib.sitemaps",
            "django.contrib.staticfiles",
            "django.contrib.messages",
            "django.contrib.humanize",
        ),
        "LANGUAGES": (("en", "English"), ("fr", "French")),
        "LANGUAGE_CODE": "en",
        "MEDIA_URL": "/media/",
        "MIDDLEWARE": (
            "richie.apps.core.cache.LimitBrowserCacheTTLHeaders",
            "cms.middleware.utils.ApphookReloadMiddleware",
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            "django.middleware.locale.LocaleMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
            "cms.middleware.user.CurrentUserMiddleware",
            "cms.middleware.page.CurrentPageMiddleware",
            "cms.middleware.toolbar.ToolbarMiddleware",
            "cms.middleware.language.LanguageCookieMiddleware",
            "dj_pagination.middleware.PaginationMiddleware",
        ),
        "MIGRATION_MODULES": FromModels(),
        "REST_FRAMEWORK": {
            "ALLOWED_VERSIONS": ("1.0",),
            "DEFAULT_AUTHENTICATION_CLASSES": ("rest_framework.authentication.SessionAuthentication",),
            "DEFAULT_VERSION": "1.0",
            "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.URLPathVersioning",
        },
        "RICHIE_COURSE_RUN_SYNC_SECRETS": Secrets(),
        "RICHIE_KEEP_SEARCH_UPDATED": False,  # there is no Elasticsearch
        "RICHIE_LMS_BACKENDS": [
            {
                "BASE_URL": "https://lms.example.org",
                "BACKEND": "richie.apps.courses.lms.edx.EdXLMSBackend",
                "COURSE_REGEX": r"^.*/courses/(?P<course_id>.*)/info/?$",
                "JS_BACKEND": "dummy",
                "JS_COURSE_REGEX": r"^.*/courses/(.*)/info/?$",
                "COURSE_RUN_SYNC_NO_UPDATE_FIELDS": [],
                "DEFAULT_COURSE_RUN_SYNC_MODE": "sync_to_public",
            }
        ],
        "ROOT_URLCONF": __name__,
        "SECRET_KEY": "of a portal for tests",
        "SITE_ID": 1,
        "STATIC_URL": "/static/",
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                        "django.template.context_processors.i18n",
                        "django.template.context_processors.request",
                        "sekizai.context_processors.sekizai",
                        "cms.context_processors.cms_settings",
                        "richie.apps.core.context_processors.site_metas",
                    ],
                },
            }
        ],
        "TIME_ZONE": "Europe/Paris",
        "USE_TZ": True,
    }
)
django.setup()

from richie.apps.core.helpers import create_i18n_page  # noqa: E402  its models want the settings
from richie.apps.courses.models import Course  # noqa: E402
from richie.apps.courses.urls import urlpatterns as courses  # noqa: E402

urlpatterns = [re_path(r"api/v(?P<version>[0-9]+\.[0-9]+)/", include(courses)), path("", include("cms.urls"))]

call_command("migrate", run_syncdb=True, verbosity=0)
for code in codes:
    page = create_i18n_page(code, template="courses/cms/course_detail.html", published=True)
    Course.objects.create(extended_object=page, code=code)
    page.publish("en")
server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
portal, one_at_a_time = get_wsgi_application(), threading.Lock()


def serve(environ, start_response):
    """Answer one request after the other: of two threads that write, SQLite refuses one at once."""
    with one_at_a_time:
        return portal(environ, start_response)


server.set_app(serve)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
