package server

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/policy/rego"
)

// How often the workspaces' repositories are listed, and how often another active
// revision is looked for. A list that fails is requested again after a while.
const (
	namesMaxAge   = time.Hour
	namesInterval = 5 * time.Second
	namesRetry    = 5 * time.Minute
)

// watchRepositories warns of repositories that the active policy names and no workspace
// has, once for each revision: what is enforced for them or delegated to them holds for
// no step. It delays no activation and no decision.
func (s *server) watchRepositories(ctx context.Context) {
	if !s.policy.UsesNames() {
		return
	}
	var names []string
	var listed, next time.Time
	checked := ""
	tick := time.NewTicker(namesInterval)
	defer tick.Stop()
	for {
		set := s.policy.Engine().Current()
		if now := time.Now(); set != nil && set.Revision().Digest != checked && !now.Before(next) {
			var err error
			if now.Sub(listed) > namesMaxAge {
				names, err = components.Repositories(ctx, s.config)
				listed = now
			}
			var unknown rego.Errors
			if err == nil {
				unknown, err = rego.UnknownRepositories(ctx, set, names)
			}
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				s.log.Warn("policy", "warning", err.Error())
				listed, next = time.Time{}, now.Add(namesRetry)
			default:
				checked = set.Revision().Digest
			}
			for _, w := range unknown {
				s.log.Warn("policy", "warning", w.Error(), "revision", checked)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
