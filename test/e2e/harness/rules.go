//go:build e2e

package harness

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Hooks are the names of the hooks of fault tests; "failing" fails now and then.
var Hooks = []string{"first", "second", "failing"}

// ThreeRules adds a rule for each of the Hooks and returns their ids by hook. "failing" fails the
// first try of every fourth event.
func (s *Site) ThreeRules() map[string]string {
	s.T.Helper()
	s.Lean = true
	s.On("failing", EveryFourthFails)
	rules := map[string]string{}
	for _, hook := range Hooks {
		rules[hook] = s.Rule(hook)
	}
	return rules
}

// EveryFourthFails is a Script that fails the first try of every fourth event.
func EveryFourthFails(n int, r *Received) Reply {
	number, _ := strconv.Atoi(strings.TrimLeft(r.Event[strings.LastIndexByte(r.Event, '-')+1:], "0"))
	if n == 1 && number/7%4 == 0 { // so that all partitions have failures
		return Reply{Status: 500}
	}
	return Reply{Status: 200}
}

// AddRule inserts a rule as Django does and returns its id.
func (s *Site) AddRule(constant, url string) int64 {
	s.T.Helper()
	result, err := s.DB.Exec(`INSERT INTO openedx_webhooks_webhook (created, modified, event, webhook_url, enabled, use_www_form_encoding)
  VALUES (UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), ?, ?, 1, 0)`, constant, url)
	if err != nil {
		s.T.Fatal(err)
	}
	id, err := result.LastInsertId()
	if err != nil {
		s.T.Fatal(err)
	}
	return id
}

// Keys that the secrets of rules are sealed with, for WEBHOOK_DISPATCHER_SECRETS_KEY.
const (
	FirstKey  = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	SecondKey = "k2:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
)

// ListedRule is a rule as `rules list --json` prints it.
type ListedRule struct {
	ID         int
	Event, URL string
	Enabled    bool
	Status     string
	Fault      string
}

// ListRules returns the rules that `rules list` shows, by id.
func (s *Site) ListRules() map[int]ListedRule {
	s.T.Helper()
	var rows []ListedRule
	if err := json.Unmarshal([]byte(s.Run("rules", "rules", "list", "--json")), &rows); err != nil {
		s.T.Fatal(err)
	}
	byID := map[int]ListedRule{}
	for _, row := range rows {
		byID[row.ID] = row
	}
	return byID
}

// Rule adds a rule that sends registrations to a hook of the receiver, with the command `rules
// add`, and returns its id.
func (s *Site) Rule(hook string, flags ...string) string {
	s.T.Helper()
	return s.Run("rules", append([]string{"rules", "add", "--event", RegistrationRule, "--url", s.URL(hook)}, flags...)...)
}
