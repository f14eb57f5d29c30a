package operator

import (
	"context"

	"github.com/sallyport/sallyport/internal/admin"
)

// policies implements [admin.Policy].
type policies struct{ Config }

// Reload loads the policy source's present revision, after it has recorded the request.
func (p policies) Reload(ctx context.Context, by admin.Operator) (admin.PolicyState, error) {
	if err := p.record(ctx, by, actionPolicyReload, ""); err != nil {
		return admin.PolicyState{}, err
	}
	return p.Config.Reload(ctx)
}
