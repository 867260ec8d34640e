#!/usr/bin/env python
"""A stand-in for the LMS: Django with the webhooks plugin and the event bus, and nothing else of Open edX.

Run it with the Python that ./venv prints:

    manage.py migrate          makes the tables, by the plugin's own migrations
    manage.py rules            adds, edits, deletes and lists rows of the plugin
    manage.py publish          sends events through the real producer
"""
import os
import sys

import pymysql

# Django asks for mysqlclient, which has to be compiled; PyMySQL is the same interface in Python and says so here.
pymysql.version_info = (2, 2, 7, "final", 0)
pymysql.install_as_MySQLdb()

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lms.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
