//go:build soak

package e2e

// How often TestSoakReloads changes the policy.
const (
	reloadsOfDirectory = 1_000
	reloadsOfGit       = 1_000
)
