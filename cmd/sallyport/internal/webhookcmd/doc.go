// Package webhookcmd is the command group `sallyport webhook`: it creates receivers, rotates
// their secrets, tests them, and lists them; it lists, shows and replays deliveries; it has the
// agent and the agents' credentials.
package webhookcmd

import (
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// New makes `sallyport webhook`.
func New() *cobra.Command {
	parent := &cobra.Command{Use: "webhook", Short: "Create and test receivers of webhooks, replay deliveries, and run agents", Args: cli.NoArguments, RunE: cli.Help}
	parent.AddCommand(newAdd(), newList(), newRotate(), newTest(), newDeliveries(), newDeadLetters(), newShow(), newReplay(), newAgent(), newAgentCredential())
	return parent
}
