package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// cleanups are teardowns in the order of their setups. They run last first, each once.
type cleanups struct{ list []cleanup }

type cleanup struct {
	name string
	run  func(ctx context.Context) error
}

// add goes on the line after what it cleans up.
func (c *cleanups) add(name string, run func(ctx context.Context) error) {
	c.list = append(c.list, cleanup{name, run})
}

// run runs all of them, even if some fail, and joins their errors.
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
