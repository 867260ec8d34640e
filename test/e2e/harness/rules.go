//go:build e2e

package harness

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Hooks of a test in which one of several endpoints fails.
var Hooks = []string{"first", "second", "failing"}

// ThreeRules adds a rule for each of the hooks, of which one fails the first try of every fourth event, and returns their ids.
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

func EveryFourthFails(n int, r *Received) Reply {
	number, _ := strconv.Atoi(strings.TrimLeft(r.Event[strings.LastIndexByte(r.Event, '-')+1:], "0"))
	if n == 1 && number/7%4 == 0 { // not one partition's alone
		return Reply{Status: 500}
	}
	return Reply{Status: 200}
}

// AddRule adds a rule as Django does.
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

// Keys that secrets of rules are sealed with.
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

// Rule adds a rule for registrations by the command, and returns its id. A hook of the receiver gets the events.
func (s *Site) Rule(hook string, flags ...string) string {
	s.T.Helper()
	return s.Run("rules", append([]string{"rules", "add", "--event", RegistrationRule, "--url", s.URL(hook)}, flags...)...)
}
