// Command database runs the embedded database until its standard input ends, and prints the DSN. It is a program of its own
// because what the database links takes seconds to start under the race detector, and the scripts start the program under test
// a hundred times.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "database:", err)
		os.Exit(1)
	}
}

func run() error {
	database, err := fakes.StartDatabase()
	if err != nil {
		return err
	}
	fmt.Println(database.DSN())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return database.Close()
}
