//go:build e2e

package webfilters

// filter is what the cases know about a filter of the plugin.
type filter struct {
	name string
	// halt is the class that halting statuses raise, "" if the plugin ignores them.
	halt string
	// exceptions are the classes that an endpoint can ask for, with valid settings.
	exceptions []exception
	// data are values of data: some that are applied and some that make the plugin fail.
	data []string
	// variants are arguments other than those in python/arguments.py.
	variants []string
}

type exception struct{ class, settings string }

// plain are settings for the base class of exceptions.
const plain = `{"message": "no ünrolment", "redirect_to": "https://r.example.edu/x?a=b", "status_code": 451, "foo": {"a": [1, null]}}`

// custom are settings for django.http.HttpResponse.
const custom = `{"content": "h\u00ed <b>", "status": 202, "content_type": "text/plain", "headers": {"X-One": "1"}}`

// redirectTo are settings of exceptions that only redirect.
const redirectTo = `{"message": "go", "redirect_to": "/elsewhere"}`

// template returns settings of exceptions that name a template.
func template(name, context string) string {
	return `{"message": "", "` + name + `": "invalid.html", "` + context + `": {"a": 1.50, "b": {"c": null}}}`
}

// contexts are data for filters of a template's context.
var contexts = []string{
	`{"context": {"a": 2, "n": {"w": [{}]}, "new": "ü"}, "template_name": "other.html", "more": 1}`,
	`{"context": {"z": 1, "course": "changed", "title": null}, "template_name": ""}`,
	`{"context": {"accomplishment_user_id": 5, "b": 1e3}, "view": "public_view", "template_name": null}`,
	`{"context": null}`,
	`{"context": [["k", "v"]]}`,
	`{"context": "text"}`,
}

// people are data for filters that change a user and their profile in the database.
var people = []string{
	`{"user": {"first_name": "Zoë", "email": "z@example.edu", "id": 9, "is_superuser": false, "password": "x", "username": "andres2"}}`,
	`{"profile": {"name": "N", "year_of_birth": 1990, "meta": "{}", "user_id": 9, "allow_certificate": false}, "mode": "verified"}`,
	`{"user": {"first_name": 1.5, "last_name": null}}`,
	`{"profile": {"year_of_birth": "soon"}}`,
	`{"user": [1], "profile": "x", "course_key": "course-v1:a+b+c", "status": "downloadable", "generation_mode": "self"}`,
	`{"course_key": "no key", "mode": {"a": 1}}`,
}

// queries are data for filters of a queryset.
var queries = []string{
	`{"filter": {"id__gte": 8}}`, `{"filter": {"pk__in": [7, 9]}, "enrollments": []}`, `{"filter": {}}`, `{"filter": {"nothing": 1}}`,
	`{"filter": null}`, `{"filter": {"id": "x"}}`, `{"filter": {"id__lt": 8.0}}`,
}

// links are data for filters whose arguments an endpoint may replace freely.
var links = []string{
	`{"url": "https://other.example.edu/é?x=\u0026"}`, `{"url": null, "org": ["a"]}`, `{"org": {"a": {"b": 1}}, "more": true}`, `{}`,
}

// The filters of the plugin in its order. A test checks that none is missing.
var filters = []filter{
	{
		name: "StudentLoginRequested", halt: "PreventLogin", data: people, variants: []string{`{"user": null}`},
		exceptions: []exception{
			{"PreventLogin", `{"message": "m", "redirect_to": "/l", "error_code": "e-1", "context": {"a": [1]}}`}, {"PreventLogin", plain},
		},
	},
	{
		name: "StudentRegistrationRequested", halt: "PreventRegistration", exceptions: []exception{{"PreventRegistration", plain}},
		data: []string{
			`{"form_data": {"name": "Zoë", "multi": ["3", 4], "new": 1, "password": "x", "Token": "t"}}`,
			`{"form_data": {"level_of_education": "hs", "gender": "f", "terms_of_service": "False"}}`,
			`{"form_data": {"level_of_education": "none of these"}}`, `{"form_data": {"gender": "ü"}}`,
			`{"form_data": {"terms_of_service": 1}}`, `{"form_data": null}`, `{"form_data": "gender"}`, `{"form_data": [1]}`,
		},
		variants: []string{`{"form_data": {"a_b": "1", "a": {"b": 2}, "x y&=+": "&=+%\u00fc\n"}}`},
	},
	{
		name: "AccountSettingsRenderStarted", halt: "RedirectToPage", data: contexts, exceptions: []exception{
			{"RedirectToPage", redirectTo},
			{"RenderCustomResponse", custom},
			{"RenderInvalidAccountSettings", template("account_settings_template", "template_context")},
		},
	},
	{
		name: "CourseEnrollmentStarted", halt: "PreventEnrollment", data: people,
		exceptions: []exception{{"PreventEnrollment", plain}},
	},
	{
		name: "CourseUnenrollmentStarted", halt: "PreventUnenrollment", data: people,
		exceptions: []exception{{"PreventUnenrollment", plain}},
	},
	{
		name: "CertificateCreationRequested", halt: "PreventCertificateCreation",
		exceptions: []exception{{"PreventCertificateCreation", plain}},
		data: append([]string{
			`{"grade": {"percent": 0.5, "passed": "False", "last_updated": "2026-05-06T07:08:09+00:00", "token": "x"}}`,
			`{"grade": {"passed": 0, "letter_grade": "B", "unknown": 1, "percent": 1}, "mode": null}`,
			`{"grade": {"last_updated": "yesterday"}}`,
		}, people...),
	},
	{
		name: "CertificateRenderStarted", halt: "RedirectToPage",
		exceptions: []exception{
			{"RedirectToPage", redirectTo},
			{"RenderCustomResponse", custom},
			{"RenderAlternativeInvalidCertificate", `{"template_name": "alternative.html"}`},
		},
		data: append([]string{
			`{"custom_template": {"template": "<p>ü</p>", "is_active": "false", "id": 9, "created": "2026-01-02T03:04:05.000006+00:00"}}`,
			`{"custom_template": {"is_active": "false", "template": 7, "mode": "x"}, "context": {"x": 1}}`,
		}, contexts...),
		variants: []string{`{"custom_template": null}`},
	},
	{
		name: "CohortChangeRequested", halt: "PreventCohortChange", exceptions: []exception{{"PreventCohortChange", plain}},
		data: []string{
			`{"target_cohort": {"name": "Other", "id": 7, "group_type": null}, "current_membership": {"course_id": "x", "user_id": 1}}`,
			`{"target_cohort": {"course_id": "course-v1:a+b+c"}, "user": {"first_name": "ignored"}}`, `{"target_cohort": "x"}`,
		},
	},
	{
		name: "CohortAssignmentRequested", halt: "PreventCohortAssignment", exceptions: []exception{{"PreventCohortAssignment", plain}},
		data: append([]string{`{"target_cohort": {"name": "Other"}, "user_profile": {"name": "P", "allow_certificate": "TRUE"}}`}, people...),
	},
	{
		name: "CourseAboutRenderStarted", halt: "RedirectToPage", data: contexts, exceptions: []exception{
			{"RedirectToPage", redirectTo},
			{"RenderCustomResponse", custom},
			{"RenderInvalidCourseAbout", template("course_about_template", "template_context")},
		},
	},
	{
		name: "DashboardRenderStarted", halt: "RedirectToPage", data: contexts, exceptions: []exception{
			{"RedirectToPage", redirectTo},
			{"RenderCustomResponse", custom},
			{"RenderInvalidDashboard", template("dashboard_template", "template_context")},
		},
		variants: []string{`{"context": {"x": [NaN, -Infinity, 1E+2, 123456789012345678901234567890, "\u0000\u007f\ud83d\ude00"]}}`},
	},
	{
		name: "VerticalBlockChildRenderStarted", halt: "PreventChildBlockRender", data: contexts,
		exceptions: []exception{{"PreventChildBlockRender", plain}},
	},
	{
		name: "CourseEnrollmentQuerysetRequested", halt: "PreventEnrollmentQuerysetRequest", data: queries,
		exceptions: []exception{{"PreventEnrollmentQuerysetRequest", plain}},
	},
	{
		name: "RenderXBlockStarted", halt: "PreventXBlockBlockRender", data: append([]string{`{"student_view_context": {"a": 1}}`}, contexts...),
		exceptions: []exception{{"PreventXBlockBlockRender", plain}, {"RenderCustomResponse", custom}},
	},
	{
		name: "VerticalBlockRenderCompleted", halt: "PreventVerticalBlockRender", data: contexts,
		exceptions: []exception{{"PreventVerticalBlockRender", plain}},
	},
	{name: "CourseHomeUrlCreationStarted", data: []string{`{"course_home_url": "/ü"}`, `{"course_home_url": null}`, `{"course_id": "x"}`}},
	{
		name: "CourseEnrollmentAPIRenderStarted",
		//nolint:misspell // the platform's own name
		data: []string{`{"serialized_enrollment": {"isEnrolled": false, "z": 1, "a": 2}}`, `{"serialized_enrollment": [1]}`, `{"x": 1}`},
	},
	{
		name: "CourseRunAPIRenderStarted",
		//nolint:misspell // the platform's own name
		data: []string{`{"serialized_courserun": {"b": 1, "a": [2.0]}, "x": 1}`, `{"serialized_courserun": 0}`},
	},
	{
		name: "InstructorDashboardRenderStarted", halt: "RenderInvalidDashboard", data: contexts, exceptions: []exception{
			{"RedirectToPage", redirectTo},
			{"RenderCustomResponse", custom},
			{"RenderInvalidDashboard", template("instructor_template", "template_context")},
		},
	},
	{
		name: "ORASubmissionViewRenderStarted", halt: "RenderInvalidTemplate", data: contexts,
		exceptions: []exception{{"RenderInvalidTemplate", template("template_name", "context")}},
	},
	{name: "IDVPageURLRequested", data: links},
	{name: "CourseAboutPageURLRequested", data: links},
	{name: "ScheduleQuerySetRequested", data: queries},
	{name: "LMSPageURLRequested", data: links},
	{
		name: "InstructorDashboardTabsRequested", halt: "PreventTabsGeneration",
		exceptions: []exception{{"PreventTabsGeneration", `{"message": "none", "tabs": [{"tab_id": "x"}]}`}},
		data:       []string{`{"tabs": [{"tab_id": "ü", "sort_order": 1.0}]}`, `{"tabs": []}`, `{"tabs": [1]}`, `{"tabs": null}`, `{"user": 1}`},
	},
	{
		name: "AccountSettingsReadOnlyFieldsRequested",
		data: []string{
			`{"readonly_fields": ["name", "ü", "email"]}`,
			`{"readonly_fields": []}`, `{"readonly_fields": [1]}`, `{"readonly_fields": {}}`,
		},
	},
	{
		name: "GradeEventContextRequested",
		data: []string{`{"context": {"b": {"c": 1}, "a": 0}, "user_id": 9}`, `{"context": []}`, `{"context": {}}`, `{"course_id": "x"}`},
	},
}
