//go:build !soak

package e2e

// How much the soak tests do: here enough to see that they work.
const (
	soakTunnels = 500
	soakCycles  = 2_000
	othersEvery = 8 // of TestNetwork's rows that do not name the control that is out
)
