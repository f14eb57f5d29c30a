//go:build soak

package agent_test

import "testing"

// TestSoakKills kills the gateway, PostgreSQL and the agent 50 times each.
func TestSoakKills(t *testing.T) {
	lost, faults := kills(t, 50, false)
	if lost != 0 || faults != nil {
		t.Errorf("%d accepted pushes are lost; %v", lost, faults)
	}
}
