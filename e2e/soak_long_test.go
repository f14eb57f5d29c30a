//go:build soak

package e2e

// How much the soak tests do.
const (
	soakTunnels = 10_000
	soakCycles  = 100_000
	othersEvery = 1 // of TestNetwork's rows that do not name the control that is out

	// fairnessAlone: the machine does nothing else, and a multiple of milliseconds means something.
	fairnessAlone = true

	fairnessGood    = 3    // rounds of an attack that must be good
	fairnessRounds  = 5    // at most
	fairnessTunnels = 1500 // that the victims open in a round, and as many when idle
)
