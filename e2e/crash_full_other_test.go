//go:build !linux

package e2e

// fillDisk is Linux's: no other system limits a process that runs.
func (c *campaign) fillDisk() {}
