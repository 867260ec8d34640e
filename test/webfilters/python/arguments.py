"""What the LMS gives to each filter: models from the database, keys, contexts of templates with objects in them."""
from datetime import date, datetime, timezone
from decimal import Decimal
from types import SimpleNamespace
from uuid import UUID

from common.djangoapps.student import models
from django.contrib.auth.models import User
from django.http import QueryDict
from django.utils.safestring import SafeString
from opaque_keys.edx.keys import CourseKey, UsageKey
from openedx_filters.content_authoring import filters as authoring
from openedx_filters.learning import filters as learning
from web_fragments.fragment import Fragment
from xblock.fields import ScopeIds

COURSE = CourseKey.from_string("course-v1:edX+DemoX+Demo_Course")
AT = datetime(2026, 1, 31, 20, 28, 10, 976084, tzinfo=timezone.utc)


def fill():
    """Makes the rows that filters get."""
    user = User.objects.create(
        id=4, username="andres", email="andres@example.edu", first_name="Andrés", is_staff=True, is_superuser=True,
        password="pbkdf2_sha256$1$x", last_login=AT, date_joined=AT.replace(microsecond=0),
    )
    models.UserProfile.objects.create(id=2, user=user, name="Andrés González 🎓", gender="m", meta='{"a": "b"}')
    for number, mode in enumerate(("honor", "verified", "audit"), start=7):
        enrollment = models.CourseEnrollment.objects.create(id=number, user=user, course_id=COURSE, created=AT, mode=mode)
        models.Schedule.objects.create(id=number, enrollment=enrollment, start_date=AT, active=mode != "audit")
    for number, name in ((1, "Cohort"), (2, "Ünother")):
        models.CourseUserGroup.objects.create(id=number, name=name, course_id=COURSE, group_type="cohort")
    models.CohortMembership.objects.create(id=5, course_user_group_id=1, user=user, course_id=COURSE)
    models.CertificateTemplate.objects.create(
        id=3, name="Custom", template="<html>${accomplishment}</html>", course_key=COURSE, is_active=True, created=AT
    )


def user():
    return User.objects.get(id=4)


def block():
    """As much of an XBlock as a payload shows."""
    key = UsageKey.from_string("block-v1:edX+DemoX+Demo_Course+type@html+block@0123456789abcdef")
    return SimpleNamespace(
        scope_ids=ScopeIds(user_id=4, block_type="html", def_id=key.block_id, usage_id=key), location=key,
        display_name="Text", graded=False, weight=1.5, start=AT, _runtime=SimpleNamespace(user_id=4), children=[key],
    )


def context(**more):
    """A template's context, with values of every kind that a payload has to show."""
    return {
        "course": SimpleNamespace(id=COURSE, display_name="Demonstration Course", start=AT, password="hidden"),
        "course_details": SimpleNamespace(effort="6 h", license=None, _private=1, org="edX"),
        "a": 1, "n": {"x": 1, "y": {"z": [True, None]}}, "n_x": "the same name when flattened", "empty": {}, "none": [],
        "csrfmiddlewaretoken": "hidden", "title": "Zoë's “quoted” & <b>", "safe": SafeString("<i>it's</i>"),
        "numbers": [0, -1, 2**70, 1.5, 1e22, -0.0, float("inf")], "pair": ("a'b", 'c"d'), "only": {"one"},
        "day": date(2026, 2, 3), "price": Decimal("49.90"), "id": UUID(int=7), "when": AT, 5: "five", ("k", 1): "pair",
        "user": user(), "deep": deep(20), **more,
    }


def deep(levels):
    return {"d": deep(levels - 1)} if levels else "bottom"


def page(**more):
    return {"context": context(**more), "template_name": "page.html"}


def grade():
    """A course grade as the LMS computes it."""
    return SimpleNamespace(
        user=user(), course_data=SimpleNamespace(course_key=COURSE, version="v1"), percent=0.93, letter_grade="A", passed=True,
        last_updated=AT, force_update_subsections=False, _subsection_grade_factory=SimpleNamespace(), token="hidden",
    )


def links():
    return {"url": "https://apps.example.edu/learn?a=b&c=ü", "org": "edX"}


def tabs():
    return [{"tab_id": "course_info", "title": "Course Info", "url": "/x", "sort_order": 10}, {"tab_id": "enrollments"}]


FORM = (
    "name=Full+Name&email=t%40example.edu&password=secret&terms_of_service=true&multi=1&multi=2&level_of_education=b&"
    "event_metadata=own&empty=&csrfmiddlewaretoken=hidden"
)

# By name: the filter's class, and what makes its arguments.
FILTERS = {
    "StudentLoginRequested": (learning, lambda: {"user": user()}),
    "StudentRegistrationRequested": (learning, lambda: {"form_data": QueryDict(FORM, mutable=True)}),
    "AccountSettingsRenderStarted": (learning, page),
    "CourseEnrollmentStarted": (learning, lambda: {"user": user(), "course_key": COURSE, "mode": "audit"}),
    "CourseUnenrollmentStarted": (learning, lambda: {"enrollment": models.CourseEnrollment.objects.get(id=7)}),
    "CertificateCreationRequested": (learning, lambda: {
        "user": user(), "course_key": COURSE, "mode": "verified", "status": "unavailable", "grade": grade(),
        "generation_mode": "batch",
    }),
    "CertificateRenderStarted": (learning, lambda: {
        "context": context(accomplishment_user_id=4, course_id=str(COURSE)),
        "custom_template": models.CertificateTemplate.objects.get(id=3),
    }),
    "CohortChangeRequested": (learning, lambda: {
        "current_membership": models.CohortMembership.objects.get(id=5),
        "target_cohort": models.CourseUserGroup.objects.get(id=2),
    }),
    "CohortAssignmentRequested": (learning, lambda: {
        "user": user(), "target_cohort": models.CourseUserGroup.objects.get(id=2),
    }),
    "CourseAboutRenderStarted": (learning, page),
    "DashboardRenderStarted": (learning, page),
    "VerticalBlockChildRenderStarted": (learning, lambda: {"block": block(), "context": context()}),
    "CourseEnrollmentQuerysetRequested": (learning, lambda: {"enrollments": models.CourseEnrollment.objects.all()}),
    "RenderXBlockStarted": (learning, lambda: {"context": context(), "student_view_context": {"show_title": False}}),
    "VerticalBlockRenderCompleted": (learning, lambda: {
        "block": block(), "fragment": Fragment("<p>Zoë</p>"), "context": context(), "view": "student_view",
    }),
    "CourseHomeUrlCreationStarted": (learning, lambda: {"course_key": COURSE, "course_home_url": "/home"}),
    "CourseEnrollmentAPIRenderStarted": (learning, lambda: {
        "course_key": COURSE, "serialized_enrollment": {"isEnrolled": True, "mode": None, "created": AT},
    }),
    "CourseRunAPIRenderStarted": (learning, lambda: {"serialized_courserun": {"courseId": str(COURSE), "start": AT}}),
    "InstructorDashboardRenderStarted": (learning, page),
    "ORASubmissionViewRenderStarted": (learning, page),
    "IDVPageURLRequested": (learning, lambda: {"url": links()["url"]}),
    "CourseAboutPageURLRequested": (learning, links),
    "ScheduleQuerySetRequested": (learning, lambda: {"schedules": models.Schedule.objects.all()}),
    "LMSPageURLRequested": (authoring, links),
    "InstructorDashboardTabsRequested": (learning, lambda: {"tabs": tabs(), "user": user(), "course_key": COURSE}),
    "AccountSettingsReadOnlyFieldsRequested": (learning, lambda: {"readonly_fields": {"username", "email"}, "user": user()}),
    "GradeEventContextRequested": (learning, lambda: {"context": {"a": 1, "at": AT}, "user_id": 4, "course_id": str(COURSE)}),
}


def arguments(name):
    """The class of the filter, and fresh arguments for it."""
    module, make = FILTERS[name]
    return getattr(module, name), make()
