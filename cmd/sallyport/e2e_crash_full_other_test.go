//go:build !linux

package main_test

// fillDisk is Linux's: no other system limits a process that runs.
func (c *campaign) fillDisk() {}
