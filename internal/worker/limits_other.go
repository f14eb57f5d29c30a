//go:build !linux

package worker

import (
	"runtime/debug"
	"time"
)

func keepInherited() {}

// confine applies what the Go runtime can bound by itself. The hard limits of
// memory, descriptors and priority exist on Linux only.
func confine(l Limits) error {
	debug.SetMaxStack(int(l.Stack))
	debug.SetMemoryLimit(l.Memory / 4 * 3)
	return nil
}

var began = time.Now()

func processorTime() time.Duration { return time.Since(began) }

func processorTimeOf(int) time.Duration { return time.Since(began) }
