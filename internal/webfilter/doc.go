// Package webfilter calls the webfilter rows of a filter, one after another, and combines what they answer as the openedx-webhooks
// plugin 22 does: data and exceptions are merged, the last row wins, and an answer whose status the row halts on stops the chain.
//
// It promises that a chain ends within its deadline whatever its endpoints do, that a row which got no answer is never taken for one that
// had nothing to say (it counts as a failed request, on which the row may halt), and that an endpoint which gives no answers is left
// alone for a while without a change of what comes out. Where the asker can wait, a row that waits for its secrets is not
// passed over at all.
//
// It leaves out where rows come from, how the request of a filter arrives (package server), and how a request is made (package sender).
// Unlike the plugin, it follows no redirect and reads 1 MiB of an answer at most.
package webfilter
