package webfilter

import (
	"maps"
	"slices"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

// haltClass is the exception that the plugin raises when a row of a filter halts, with the arguments that its constructor takes beside the
// message: the plugin itself drops the others, but not when it raises what an answer names. The zero haltClass is none: such a filter
// cannot halt.
type haltClass struct {
	name     string
	redirect bool // redirect_to
	status   bool // status_code
}

// haltClasses has the plugin 22's filters.
var haltClasses = map[string]haltClass{
	"StudentLoginRequested":                  {"PreventLogin", true, false},
	"StudentRegistrationRequested":           {"PreventRegistration", true, true},
	"AccountSettingsRenderStarted":           {"RedirectToPage", true, false},
	"CourseEnrollmentStarted":                {"PreventEnrollment", true, true},
	"CourseUnenrollmentStarted":              {"PreventUnenrollment", true, true},
	"CertificateCreationRequested":           {"PreventCertificateCreation", true, true},
	"CertificateRenderStarted":               {"RedirectToPage", true, false},
	"CohortChangeRequested":                  {"PreventCohortChange", true, true},
	"CohortAssignmentRequested":              {"PreventCohortAssignment", true, true},
	"CourseAboutRenderStarted":               {"RedirectToPage", true, false},
	"DashboardRenderStarted":                 {"RedirectToPage", true, false},
	"VerticalBlockChildRenderStarted":        {"PreventChildBlockRender", true, true},
	"CourseEnrollmentQuerysetRequested":      {"PreventEnrollmentQuerysetRequest", true, true},
	"RenderXBlockStarted":                    {"PreventXBlockBlockRender", true, true},
	"VerticalBlockRenderCompleted":           {"PreventVerticalBlockRender", true, true},
	"CourseHomeUrlCreationStarted":           {},
	"CourseEnrollmentAPIRenderStarted":       {},
	"CourseRunAPIRenderStarted":              {},
	"InstructorDashboardRenderStarted":       {"RenderInvalidDashboard", false, false},
	"ORASubmissionViewRenderStarted":         {"RenderInvalidTemplate", false, false},
	"IDVPageURLRequested":                    {},
	"CourseAboutPageURLRequested":            {},
	"ScheduleQuerySetRequested":              {},
	"LMSPageURLRequested":                    {},
	"InstructorDashboardTabsRequested":       {"PreventTabsGeneration", false, false},
	"AccountSettingsReadOnlyFieldsRequested": {},
	"GradeEventContextRequested":             {},
}

// Names returns the names of the plugin's filters, sorted.
func Names() []string { return slices.Sorted(maps.Keys(haltClasses)) }

// Halts tells whether a row of the plugin's filter of this name can halt.
func Halts(filter string) bool { return haltClasses[filter].name != "" }

// Label returns the name of a filter as the label of a metric: a name that the plugin does not know is "other".
func Label(filter string) string {
	if _, known := haltClasses[filter]; known {
		return filter
	}
	return "other"
}

// Answer returns what the plugin has to be answered, so that the one row by which it asks has the effect of all of them: an object with
// data and exception, of which what is empty is left out.
func (o *Outcome) Answer(filter string) payload.Value {
	var answer payload.Entries
	switch {
	case o.Halt != nil:
		answer.Set("exception", o.Halt.exception(haltClasses[filter]))
	default:
		if o.Data.Len() > 0 {
			answer.Set("data", o.Data)
		}
		if o.Exceptions.Len() > 0 {
			answer.Set("exception", o.Exceptions)
		}
	}
	return answer.Object()
}

func (h *Halt) exception(class haltClass) payload.Value {
	var settings payload.Entries
	settings.Set("message", payload.StringValue(h.Message))
	if class.redirect {
		settings.Set("redirect_to", payload.StringValue(h.RedirectTo))
	}
	if class.status && h.Status != 0 {
		settings.Set("status_code", payload.IntValue(int64(h.Status)))
	}
	return payload.ObjectValue([]string{class.name}, []payload.Value{settings.Object()})
}
