//go:build soak

package main_test

// How often TestSoakReloads changes the policy.
const (
	reloadsOfDirectory = 1_000
	reloadsOfGit       = 1_000
)
