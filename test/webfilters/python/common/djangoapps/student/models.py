"""The LMS's models that filters get, cut down to what makes a payload; the plugin imports this module by its name in the LMS."""
from django.contrib.auth.models import User
from django.db import models
from opaque_keys.edx.django.models import CourseKeyField


class UserProfile(models.Model):
    """A learner's profile."""

    GENDER_CHOICES = (("m", "Male"), ("f", "Female"), ("o", "Other/Prefer Not to Say"))
    LEVEL_OF_EDUCATION_CHOICES = (
        ("p", "Doctorate"),
        ("m", "Master's or professional degree"),
        ("b", "Bachelor's degree"),
        ("hs", "Secondary/high school"),
        ("none", "No formal education"),
    )

    user = models.OneToOneField(User, related_name="profile", on_delete=models.CASCADE)
    name = models.CharField(max_length=255, blank=True)
    meta = models.TextField(blank=True)
    language = models.CharField(max_length=255, blank=True)
    year_of_birth = models.IntegerField(null=True)
    gender = models.CharField(max_length=6, null=True, choices=GENDER_CHOICES)
    level_of_education = models.CharField(max_length=6, null=True, choices=LEVEL_OF_EDUCATION_CHOICES)
    country = models.CharField(max_length=2, null=True)
    allow_certificate = models.BooleanField(default=True)
    phone_number = models.CharField(max_length=50, null=True)


class CourseEnrollment(models.Model):
    """A learner's enrolment."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    course_id = CourseKeyField(max_length=255)
    created = models.DateTimeField()
    is_active = models.BooleanField(default=True)
    mode = models.CharField(max_length=100)


class Schedule(models.Model):
    """When an enrolment's messages are sent."""

    enrollment = models.OneToOneField(CourseEnrollment, on_delete=models.CASCADE)
    active = models.BooleanField(default=True)
    start_date = models.DateTimeField()
    upgrade_deadline = models.DateTimeField(null=True)


class CourseUserGroup(models.Model):
    """A cohort."""

    name = models.CharField(max_length=255)
    users = models.ManyToManyField(User, related_name="course_groups")
    course_id = CourseKeyField(max_length=255)
    group_type = models.CharField(max_length=20)


class CohortMembership(models.Model):
    """A learner's cohort."""

    course_user_group = models.ForeignKey(CourseUserGroup, on_delete=models.CASCADE)
    user = models.ForeignKey(User, on_delete=models.CASCADE)
    course_id = CourseKeyField(max_length=255)


class CertificateTemplate(models.Model):
    """A course's own certificate."""

    name = models.CharField(max_length=255)
    description = models.CharField(max_length=255, null=True)
    template = models.TextField()
    organization_id = models.IntegerField(null=True)
    course_key = CourseKeyField(max_length=255, null=True)
    mode = models.CharField(max_length=125, null=True)
    is_active = models.BooleanField(default=False)
    created = models.DateTimeField()
