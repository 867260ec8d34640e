//go:build e2e

// Package harness runs the daemon's binary against real servers for the tests of test/e2e: Apache
// Kafka, Apicurio Registry and MariaDB, the platform's own publisher, and tables made by the plugin's
// Django migrations. The other suites with the tag e2e use its smaller parts.
//
// A test begins with a [Site]: topics under a prefix, a consumer group, a database and a [Receiver]
// that no other test uses. [Site.Serve] starts a [Daemon] on it, with the grants of production.
//
// Events come from a [Producer], which can break them in any way, as a stream from a [Traffic] or a
// [Load], or from a [Publisher], which runs the platform's own code. They go to hooks of the receiver,
// or to the endpoints of a [Sink] if there are many. A [Proxy] or a [Server] of the test's own
// simulates outages, a [Clock] wrong times.
//
// The shared servers start with the first site and end with [Stop]. Everything else ends with its
// test. What is given a *testing.T, or keeps one, fails that test instead of returning an error and
// must be called on the test's goroutine; what returns an error is made for [Eventually].
package harness
