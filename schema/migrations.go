package schema

import (
	"embed"
	"fmt"
	"io/fs"
)

// migrations create and change the dispatcher's tables with goose. Each has one idempotent
// statement and can be repeated after a crash.
//
//go:embed migrations/*.sql
var migrations embed.FS

//go:embed migrations/plugin/*.sql
var pluginTables embed.FS

// Migrations returns a file system with the migrations, named <version>_<what>.sql, at its root.
func Migrations() (fs.FS, error) {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("open migrations: %w", err)
	}
	return sub, nil
}

// PluginTable is a table of the Django plugin openedx-webhooks.
type PluginTable struct {
	Name string
	// Create creates the table if it does not exist, as the plugin's migrations 0001 to 0008 do.
	Create string
}

// PluginTables returns the tables of the plugin, for a database without Django.
func PluginTables() ([]PluginTable, error) {
	var tables []PluginTable
	for _, name := range [...]string{"openedx_webhooks_webhook", "openedx_webhooks_webfilter"} {
		text, err := pluginTables.ReadFile("migrations/plugin/" + name + ".sql")
		if err != nil {
			return nil, fmt.Errorf("read definition of table %s: %w", name, err)
		}
		tables = append(tables, PluginTable{Name: name, Create: string(text)})
	}
	return tables, nil
}
