package admin

// sampleText returns a plausible text for a field, so that a sample passes a receiver's own checks.
func sampleText(field string) string {
	switch field {
	case "course_key", "course_id", "master_course_key", "content_key":
		return "course-v1:edX+DemoX+Demo_Course"
	case "ccx_course_key":
		return "ccx-v1:edX+DemoX+Demo_Course+ccx@1"
	case "usage_key", "source_usage_key", "location", "object_id":
		return "block-v1:edX+DemoX+Demo_Course+type@problem+block@0123456789abcdef"
	case "library_key":
		return "lib:edX:demo"
	case "collection_key":
		return "lib-collection:edX:demo:sample"
	case "container_key":
		return "lct:edX:demo:unit:sample"
	case "username":
		return "learner"
	case "email", "coach_email":
		return "learner@example.com"
	case "uuid", "enterprise_customer_uuid", "ledger_uuid", "subsidy_access_policy_uuid", "transaction_id", "invite_key":
		return "5a3e0000-0000-4000-8000-000000000002"
	case "url", "content_url", "download_url", "image_url":
		return "https://lms.example.com/sample"
	case "mode":
		return "audit"
	case "block_type":
		return "problem"
	case "":
		return "sample"
	}
	return "sample " + field
}
