//go:build soak

package e2e

// How much the soak tests do.
const (
	soakTunnels = 10_000
	soakCycles  = 100_000
	othersEvery = 1 // of TestNetwork's rows that do not name the control that is out
)
