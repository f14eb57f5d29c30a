// Package policycmd has the commands for a policy repository: check, test, evaluate,
// compare, suggest.
package policycmd

import (
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// New makes `sallyport policy` with the commands of this package.
func New() *cobra.Command {
	parent := &cobra.Command{Use: "policy", Short: "Check, test and evaluate policies", Args: cli.NoArguments, RunE: cli.Help}
	parent.AddCommand(newPolicyInit(), newPolicyFmt(), newPolicyCheck(), newPolicyTest(), newPolicyVendor(),
		newPolicyEval(), newPolicyExplain(), newPolicyReplay(), newPolicyDiff(), newPolicyWhoCan(), newPolicySuggest(), newPolicyRollout())
	return parent
}
