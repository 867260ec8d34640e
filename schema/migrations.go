package schema

import (
	"embed"
	"fmt"
	"io/fs"
)

// migrations holds the steps that make and change the dispatcher's own tables, for goose: one idempotent statement each,
// so that a step can be repeated after a crash in its middle.
//
//go:embed migrations/*.sql
var migrations embed.FS

//go:embed migrations/plugin/*.sql
var pluginTables embed.FS

// Migrations returns the files of the migrations, named <version>_<what>.sql, at the root of a file system.
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
	// Create makes the table, if it is not there, as the plugin's migrations 0001 to 0008 leave it: same columns in the same order.
	Create string
}

// PluginTables returns the tables of the plugin, for a database that no Django looks after.
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
