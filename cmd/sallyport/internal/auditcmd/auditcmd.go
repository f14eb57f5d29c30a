// Package auditcmd has the commands that read the audit log and those that manage its
// keys, retention and gaps.
package auditcmd

import (
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// New makes `sallyport audit` with the commands of this package.
func New() *cobra.Command {
	parent := &cobra.Command{Use: "audit", Short: "Query, verify and export the audit log", Args: cli.NoArguments, RunE: cli.Help}
	parent.AddCommand(newPsql(), newQuery(), newTail(), newStats(), newStream(), newShow(), newReconciliation(), newProof(), newKey(), newRetention(), newHold(), newGap())
	return parent
}
