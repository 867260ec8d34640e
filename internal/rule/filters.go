package rule

import "strings"

// PluginFilter is a filter of the plugin 22. Its name stands in the event column of webfilter rows, never of webhook rows.
type PluginFilter struct {
	Name string
	// Exception is what the plugin raises when a row halts; "" for a filter that cannot halt. RedirectTo and StatusCode say which
	// arguments it takes beside the message: the plugin drops the others, but not when it raises what an answer names.
	Exception              string
	RedirectTo, StatusCode bool
	Former                 string // the name in releases before 22, "" where it was the same or differed in case alone
}

var pluginFilters = [...]PluginFilter{
	{"StudentLoginRequested", "PreventLogin", true, false, ""},
	{"StudentRegistrationRequested", "PreventRegistration", true, true, ""},
	{"AccountSettingsRenderStarted", "RedirectToPage", true, false, "StudentSettingsRenderStarted"},
	{"CourseEnrollmentStarted", "PreventEnrollment", true, true, ""},
	{"CourseUnenrollmentStarted", "PreventUnenrollment", true, true, ""},
	{"CertificateCreationRequested", "PreventCertificateCreation", true, true, ""},
	{"CertificateRenderStarted", "RedirectToPage", true, false, ""},
	{"CohortChangeRequested", "PreventCohortChange", true, true, ""},
	{"CohortAssignmentRequested", "PreventCohortAssignment", true, true, ""},
	{"CourseAboutRenderStarted", "RedirectToPage", true, false, ""},
	{"DashboardRenderStarted", "RedirectToPage", true, false, ""},
	{"VerticalBlockChildRenderStarted", "PreventChildBlockRender", true, true, ""},
	{"CourseEnrollmentQuerysetRequested", "PreventEnrollmentQuerysetRequest", true, true, ""},
	{"RenderXBlockStarted", "PreventXBlockBlockRender", true, true, "XblockRenderStarted"},
	{"VerticalBlockRenderCompleted", "PreventVerticalBlockRender", true, true, ""},
	{"CourseHomeUrlCreationStarted", "", false, false, "CourseHomepageUrlCreationStarted"},
	{"CourseEnrollmentAPIRenderStarted", "", false, false, "HomeEnrollmentApiRendered"},
	{"CourseRunAPIRenderStarted", "", false, false, "HomeCourserunApiRenderedStarted"},
	{"InstructorDashboardRenderStarted", "RenderInvalidDashboard", false, false, ""},
	{"ORASubmissionViewRenderStarted", "RenderInvalidTemplate", false, false, ""},
	{"IDVPageURLRequested", "", false, false, ""},
	{"CourseAboutPageURLRequested", "", false, false, ""},
	{"ScheduleQuerySetRequested", "", false, false, ""},
	{"LMSPageURLRequested", "", false, false, "AuthoringLmsPageUrlRequested"},
	{"InstructorDashboardTabsRequested", "PreventTabsGeneration", false, false, ""},
	{"AccountSettingsReadOnlyFieldsRequested", "", false, false, ""},
	{"GradeEventContextRequested", "", false, false, ""},
}

// PluginFilters returns the plugin's filters. The slice must not be changed.
func PluginFilters() []PluginFilter { return pluginFilters[:] }

// FindFilter finds a filter by its name or former name, in any case, as MySQL compares them; nil if the plugin does not know it.
func FindFilter(name string) *PluginFilter {
	for i := range pluginFilters {
		if f := &pluginFilters[i]; strings.EqualFold(f.Name, name) || f.Former != "" && strings.EqualFold(f.Former, name) {
			return f
		}
	}
	return nil
}

// FilterName returns the name of a filter as the plugin 22 spells it. A name that the plugin does not know comes back as it is, and what
// can only be the type of an event as "", the name of no filter: a request that asks for a filter must not reach rows of the bus.
func FilterName(name string) string {
	if isType(name) {
		return ""
	}
	if f := FindFilter(name); f != nil {
		return f.Name
	}
	return name
}
