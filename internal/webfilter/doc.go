// Package webfilter calls the webfilter rows of a filter one after another and combines their
// answers like the openedx-webhooks plugin 22: data and exceptions are merged, the last row wins,
// and a status on which a row halts stops the chain.
//
// A chain ends within its deadline whatever its endpoints do. A row without an answer counts as a
// failed request, on which it may halt, never as one with nothing to say. An endpoint that gives no
// answers is not called for a while, with the same result. If the caller can wait, a row that waits
// for its secrets is not skipped.
//
// Unlike the plugin, it follows no redirects and reads at most 1 MiB of an answer.
package webfilter
