package components

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

// toolDeadline bounds one evaluation in the tools of the policy repository. It is
// longer than a server's, since a build machine may be busy with something else.
const toolDeadline = 5 * time.Second

// LoadPolicy loads a policy without running its tests. The error of a policy that
// does not load is [cli.Invalid].
func LoadPolicy(ctx context.Context, name string, snapshot *policy.Snapshot, options rego.Options) (*rego.Set, error) {
	options.SkipTests, options.Deadline = true, toolDeadline
	set, err := rego.Load(ctx, snapshot, options)
	if faults, ok := errors.AsType[rego.Errors](err); ok {
		return nil, cli.Invalid(fmt.Errorf("the policy in %s does not load:\n%w", name, faults))
	}
	return set, err
}
