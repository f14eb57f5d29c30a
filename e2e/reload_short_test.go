//go:build !soak

package e2e

// How often TestSoakReloads changes the policy: here enough to see that it works.
const (
	reloadsOfDirectory = 25
	reloadsOfGit       = 10
)
