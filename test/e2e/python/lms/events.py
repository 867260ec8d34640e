"""Events to publish: named ones that look like production's, and any value for every signal that there is."""
import typing
import uuid
from datetime import datetime, timezone

from ccx_keys.locator import CCXLocator
from opaque_keys.edx.keys import CourseKey, UsageKey
from opaque_keys.edx.locator import (
    LibraryCollectionLocator,
    LibraryContainerLocator,
    LibraryLocatorV2,
    LibraryUsageLocatorV2,
)
from openedx_events.content_authoring import data as authoring
from openedx_events.content_authoring import signals as authoring_signals
from openedx_events.event_bus.avro.serializer import AvroSignalSerializer
from openedx_events.learning import data as learning
from openedx_events.learning import signals as learning_signals
from openedx_events.tooling import OpenEdxPublicSignal, load_all_signals

START = datetime(2026, 3, 1, 9, 30, 15, 123456, tzinfo=timezone.utc)

# Base topics and key fields as the platform's own settings have them. Other events get a topic named after their domain.
TOPICS = {
    "content_authoring.course.catalog_info.changed.v1": ("course-catalog-info-changed", "catalog_info.course_key"),
    "content_authoring.xblock.deleted.v1": ("course-authoring-xblock-lifecycle", "xblock_info.usage_key"),
    "content_authoring.xblock.duplicated.v1": ("course-authoring-xblock-lifecycle", "xblock_info.usage_key"),
    "content_authoring.xblock.published.v1": ("course-authoring-xblock-lifecycle", "xblock_info.usage_key"),
    "learning.auth.session.login.completed.v1": ("user-login", "user.pii.username"),
    "learning.certificate.created.v1": ("learning-certificate-lifecycle", "certificate.course.course_key"),
    "learning.certificate.revoked.v1": ("learning-certificate-lifecycle", "certificate.course.course_key"),
    "learning.course.enrollment.created.v1": (
        "learning-course-enrollment-lifecycle",
        "enrollment.course.course_key",
    ),
    "learning.course.unenrollment.completed.v1": ("course-unenrollment-lifecycle", "enrollment.course.course_key"),
    "learning.student.registration.completed.v1": ("user-registration", "user.pii.username"),
    "learning.user.course_access_role.added.v1": (
        "learning-course-access-role-lifecycle",
        "course_access_role_data.course_key",
    ),
    "learning.user.course_access_role.removed.v1": (
        "learning-course-access-role-lifecycle",
        "course_access_role_data.course_key",
    ),
}

# One value for each type that is not made of others; n makes values differ from event to event.
LEAVES = {
    bool: lambda n: n % 2 == 0,
    bytes: lambda n: bytes([0, 127, 128, 255]),
    datetime: lambda n: START,
    float: lambda n: n + 0.1,
    int: lambda n: 2**53 + n,  # no double holds all of these
    str: lambda n: f"text {n} “é” 漢字 🎓",
    uuid.UUID: lambda n: uuid.UUID(int=n),
    CCXLocator: lambda n: CCXLocator(org="OpenedX", course="DemoX", run="2026_T1", ccx=str(n)),
    CourseKey: lambda n: CourseKey.from_string(f"course-v1:OpenedX+Ünïcode{n}+2026_T1"),
    UsageKey: lambda n: UsageKey.from_string(f"block-v1:OpenedX+DemoX+2026_T1+type@problem+block@{n:032x}"),
    LibraryCollectionLocator: lambda n: LibraryCollectionLocator.from_string(f"lib-collection:OpenedX:demo:c{n}"),
    LibraryContainerLocator: lambda n: LibraryContainerLocator.from_string(f"lct:OpenedX:demo:unit:u{n}"),
    LibraryLocatorV2: lambda n: LibraryLocatorV2.from_string(f"lib:OpenedX:demo{n}"),
    LibraryUsageLocatorV2: lambda n: LibraryUsageLocatorV2.from_string(f"lb:OpenedX:demo:problem:p{n}"),
}

# Values that are hard to spell: quotes and what is not printable for Python's repr, numbers at the ends of their ranges, a time
# without a fraction.
ODD_LEAVES = {
    **LEAVES,
    datetime: lambda n: START.replace(microsecond=0),
    float: lambda n: [1e16, 1e-7, -0.0, 1.7976931348623157e308, 5e-324][n % 5],
    int: lambda n: [-(2**63), 2**63 - 1, 0][n % 3],
    str: lambda n: ["it's", 'say "hi"', "it's \"both\"", "\\ \n\r\t\0\x1b\x7f", "\u200b\u2028\u00ad\U000e0001\u0378", "&<>+%/=; ~", ""][n % 7],
}
# Keys of maps: the plugin leaves some of them out, in any case, and those that begin with an underscore.
KEYS = ("k1", "k 2")
ODD_KEYS = ("Password", "tokens", "token", "_private", "a_b", "", "é")


def value(kind, sparse, n, leaves=LEAVES, keys=KEYS):
    """Any value of the type. A sparse one has None wherever it may, and no items in its lists and maps."""
    if kind in leaves:
        return leaves[kind](n)
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is list:
        return [] if sparse else [value(inner[0], sparse, n + i, leaves, keys) for i in range(2)]
    if typing.get_origin(kind) is dict:
        return {} if sparse else {key: value(inner[1], sparse, n + i, leaves, keys) for i, key in enumerate(keys)}
    if hasattr(kind, "__attrs_attrs__"):
        return kind(**{
            field.name: None if sparse and field.default is None else value(field.type, sparse, n + i, leaves, keys)
            for i, field in enumerate(kind.__attrs_attrs__)
        })
    raise TypeError(f"no value is known for {kind}")


def key_field(signal):
    """A path to a field that can be the key: one that is always there, course, block or user by preference."""
    found = []

    def walk(path, kind):
        if hasattr(kind, "__attrs_attrs__"):
            for field in kind.__attrs_attrs__:
                if field.default is not None:  # the producer refuses an optional field
                    walk([*path, field.name], field.type)
        elif kind in LEAVES and kind not in (bool, datetime):
            found.append(".".join(path))

    for name, kind in signal.init_data.items():
        walk([name], kind)
    wanted = ["course_key", "usage_key", "username", "library_key", "id", "uuid"]
    return min(found, key=lambda path: (next((i for i, end in enumerate(wanted) if path.endswith(end)), 99), len(path)))


def route(signal):
    """The base topic and the key field of a signal."""
    short = signal.event_type.removeprefix("org.openedx.")
    if short in TOPICS:
        return TOPICS[short]
    return "openedx-" + short.split(".")[0], key_field(signal)


def all_signals():
    """Every signal that can be on the bus, and the reason for each one that cannot."""
    load_all_signals()
    good, bad = [], {}
    for signal in OpenEdxPublicSignal.all_events():
        if "-" in signal.event_type:  # it becomes the schema's namespace, where Avro allows no hyphen
            bad[signal.event_type] = "registries refuse its schema"
            continue
        try:
            AvroSignalSerializer(signal)
            good.append(signal)
        except Exception as error:  # whatever the library makes of a type that it does not know
            bad[signal.event_type] = f"{type(error).__name__}: {error}"
    return sorted(good, key=lambda signal: signal.event_type), bad


def made(signals):
    """Three events of each signal: (label, signal, function of n that gives its data)."""
    for signal in signals:
        for label, arguments in (("full", (False,)), ("sparse", (True,)), ("odd", (False, ODD_LEAVES, ODD_KEYS))):
            yield label, signal, lambda n, s=signal, arguments=arguments: {
                name: value(kind, arguments[0], n, *arguments[1:]) for name, kind in s.init_data.items()
            }


def learner(n):
    """A learner of her own for each n: her id is n."""
    pii = learning.UserPersonalData(username=f"learner{n}", email=f"learner{n}@example.edu", name=f"Zoë Müller {n}")
    return learning.UserData(id=n, is_active=True, pii=pii)


def course(n):
    """One of 97 courses, so that the keys of many events spread over all partitions."""
    key = CourseKey.from_string(f"course-v1:OpenedX+Demo{n % 97}+2026_T1")
    return learning.CourseData(course_key=key, display_name="Demonstration Course", start=START, end=None)


def named():
    """Events as production sends them: (label, signal, function of n that gives its data)."""
    staff = learning.UserData(
        id=7, is_active=True, pii=learning.UserPersonalData(username="staff", email="staff@example.edu", name="")
    )
    yield "enrolled", learning_signals.COURSE_ENROLLMENT_CREATED, lambda n: {
        "enrollment": learning.CourseEnrollmentData(
            user=learner(n), course=course(n), mode="verified", is_active=True, creation_date=START, created_by=staff
        )
    }
    yield "registered", learning_signals.STUDENT_REGISTRATION_COMPLETED, lambda n: {"user": learner(n)}
    yield "logged-in", learning_signals.SESSION_LOGIN_COMPLETED, lambda n: {"user": learner(n)}
    yield "certified", learning_signals.CERTIFICATE_CREATED, lambda n: {
        "certificate": learning.CertificateData(
            user=learner(n), course=course(n), mode="verified", grade="0.93", current_status="downloadable",
            download_url=f"https://lms.example.edu/certificates/{n}", name=f"Zoë Müller {n}",
        )
    }
    yield "published", authoring_signals.XBLOCK_PUBLISHED, lambda n: {
        "xblock_info": authoring.XBlockData(
            usage_key=UsageKey.from_string(f"block-v1:OpenedX+DemoX+2026_T1+type@vertical+block@{n:032x}"),
            block_type="vertical",
        )
    }
    yield "catalogued", authoring_signals.COURSE_CATALOG_INFO_CHANGED, lambda n: {
        "catalog_info": authoring.CourseCatalogData(
            course_key=course(n).course_key, name="Demonstration Course", hidden=False, invitation_only=False,
            schedule_data=authoring.CourseScheduleData(
                start=START, pacing="self", end=None, enrollment_start=START, enrollment_end=None
            ),
        )
    }
