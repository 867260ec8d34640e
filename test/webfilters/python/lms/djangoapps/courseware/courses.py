"""What the plugin asks the LMS for when it calls the filters of certificates."""


def get_course_blocks_completion_summary(course_key, user):
    """The numbers of blocks by state of completion, as the LMS gives them."""
    return {"complete_count": 7, "incomplete_count": 2, "locked_count": 0}
