package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// cleanups run in reverse order, each once.
type cleanups struct{ list []cleanup }

type cleanup struct {
	name string
	run  func(ctx context.Context) error
}

// add goes on the line after what it cleans up.
func (c *cleanups) add(name string, run func(ctx context.Context) error) {
	c.list = append(c.list, cleanup{name, run})
}

// run runs all of them, even after an error.
func (c *cleanups) run(ctx context.Context) error {
	var errs []error
	for _, v := range slices.Backward(c.list) {
		if err := v.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", v.name, err))
		}
	}
	c.list = nil
	return errors.Join(errs...)
}
