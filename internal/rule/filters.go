package rule

import "strings"

// filterNames are what the plugin 22 calls its filters, and the names that its releases before 22 offered. They stand in the event
// column of webfilter rows and mean nothing in that of webhook rows.
const filterNames = ` StudentLoginRequested StudentRegistrationRequested AccountSettingsRenderStarted CourseEnrollmentStarted
 CourseUnenrollmentStarted CertificateCreationRequested CertificateRenderStarted CohortChangeRequested CohortAssignmentRequested
 CourseAboutRenderStarted DashboardRenderStarted VerticalBlockChildRenderStarted CourseEnrollmentQuerysetRequested RenderXBlockStarted
 VerticalBlockRenderCompleted CourseHomeUrlCreationStarted CourseEnrollmentAPIRenderStarted CourseRunAPIRenderStarted
 InstructorDashboardRenderStarted ORASubmissionViewRenderStarted IDVPageURLRequested CourseAboutPageURLRequested
 ScheduleQuerySetRequested LMSPageURLRequested InstructorDashboardTabsRequested AccountSettingsReadOnlyFieldsRequested
 GradeEventContextRequested StudentSettingsRenderStarted XblockRenderStarted CourseHomepageUrlCreationStarted HomeEnrollmentApiRendered
 HomeCourserunApiRenderedStarted OraSubmissionViewRenderStarted AuthoringLmsPageUrlRequested `

func isFilterName(event string) bool {
	for name := range strings.FieldsSeq(filterNames) {
		if strings.EqualFold(name, event) {
			return true
		}
	}
	return false
}
