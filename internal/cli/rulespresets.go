package cli

import (
	"fmt"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/preset"
)

type presetsCommand struct {
	JSON bool `help:"Print one JSON document." name:"json"`
}

// Run lists the presets.
func (c *presetsCommand) Run(s *session) error {
	views, err := admin.Presets()
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(views)
	}
	var b strings.Builder
	for i := range views {
		v := &views[i]
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s, for %s\n    %s\n", v.Name, v.Event, v.Summary)
		if v.Secret != "" {
			fmt.Fprintf(&b, "    --secret: %s\n", v.Secret)
		}
		for _, p := range v.Parameters {
			fmt.Fprintf(&b, "    --param %s=VALUE: %s%s\n", p.Name, p.Help, remark(&p))
		}
	}
	_, err = s.Stdout.Write([]byte(b.String()))
	return err
}

// remark says what else a parameter's help leaves open.
func remark(p *preset.Parameter) string {
	switch {
	case len(p.Choices) > 0:
		return " (" + strings.Join(p.Choices, ", ") + "; optional)"
	case p.Default != "":
		return " (" + p.Default + " by default)"
	case !p.Required:
		return " (optional)"
	}
	return ""
}
