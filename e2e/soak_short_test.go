//go:build !soak

package e2e

// How much the soak tests do: here enough to see that they work.
const (
	soakTunnels = 500
	soakCycles  = 2_000
	othersEvery = 8 // of TestNetwork's rows that do not name the control that is out

	// fairnessAlone: the machine does nothing else, and a multiple of milliseconds means something.
	fairnessAlone = false

	fairnessGood    = 1   // rounds of an attack that must be good
	fairnessRounds  = 6   // at most
	fairnessTunnels = 100 // that the victims open in a round, and as many when idle
)
