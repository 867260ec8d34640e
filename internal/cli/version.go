package cli

import (
	"fmt"
	"runtime/debug"
	"strings"
)

type versionCommand struct{ jsonFlag }

// buildInfo says which program this is.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
}

// build returns what the linker and the Go command left in the binary.
func (p *Process) build() buildInfo {
	b := buildInfo{Version: p.Version, Revision: "unknown", Go: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if ok {
		b.Go = info.GoVersion
		if b.Version == "" {
			b.Version = strings.TrimPrefix(info.Main.Version, "v")
		}
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				b.Revision = setting.Value
			}
		}
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	return b
}

// Run prints the version. It reads no settings, so it works with wrong ones.
func (c *versionCommand) Run(s *session) error {
	b := s.build()
	if c.JSON {
		return s.printJSON(b)
	}
	_, err := fmt.Fprintf(s.Stdout, "webhook-dispatcher %s (revision %s, %s)\n", b.Version, b.Revision, b.Go)
	return err
}
