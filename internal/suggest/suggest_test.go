package suggest

import "testing"

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"serve", "rules", "ruler", "migrate", "é"}
	for _, tc := range []struct{ name, want string }{
		{"serve", "serve"},
		{"SERVR", "serve"},
		{"migraet", "migrate"},
		{"rulex", "ruler"}, // as near as rules
		{"rule", "ruler"},
		{"mig", ""},
		{"undecodable", ""},
		{"", ""},
		{"se", ""},
		{"migrations", ""},
	} {
		if got := Nearest(tc.name, names); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.name, got, tc.want)
		}
	}
	if got := Nearest("serve", nil); got != "" {
		t.Errorf("of no names %q", got)
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text  string
		runes int
		want  string
	}{
		{"", 0, ""},
		{"é", 0, "…"},
		{"café", 4, "café"},
		{"café!", 4, "café…"},
		{"\xff\xfe", 1, "\xff…"},
	} {
		if got := Clip(tc.text, tc.runes); got != tc.want {
			t.Errorf("%q to %d: %q, want %q", tc.text, tc.runes, got, tc.want)
		}
	}
}
