package server

import (
	"context"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/approval"
)

const (
	// approvalInterval is how often the log is read for what others activated.
	approvalInterval = time.Minute
	// approvalStagger lets one of several instances ask, and the others find its event.
	approvalStagger = 5 * time.Second
	// approvalSettle is how long Bitbucket has to link a commit with a pull request.
	approvalSettle = 15 * time.Minute
)

// openApprovals makes what reads the approvals of activated commits. It is nil where
// policy is in no repository of a workspace with an API, and where it is disabled.
func (s *server) openApprovals(ctx context.Context) error {
	c := s.config.Policy
	if !c.Approvals.Enabled || c.Git == nil {
		return nil
	}
	workspace, name, ok := c.BitbucketRepository()
	if !ok {
		s.log.Info("approvals of the policy are not read: policy.git.url is not a repository of bitbucket.org, and policy.approvals.repository is not set")
		return nil
	}
	for _, w := range s.config.Identity.Bitbucket {
		if w.Workspace != workspace || w.API == nil {
			continue
		}
		api, err := s.authenticator.API(w.WorkspaceUUID)
		if err != nil {
			return err
		}
		reader, err := api.PullRequests(name)
		if err != nil {
			return err
		}
		open, err := auditreader.OpenApprovals(ctx, s.databaseURL)
		if err != nil {
			return err
		}
		s.atClose(open.Close)
		s.approvals = approval.New(approval.Config{
			Log: approvalLog{open, s.audit}, API: reader, Repository: workspace + "/" + name, Branch: c.Git.Branch,
			Deadline: c.Approvals.Deadline, Settle: min(approvalSettle, c.Approvals.Deadline), Interval: approvalInterval, Stagger: approvalStagger,
			Logger: s.log.With("component", "approvals"),
		})
		return nil
	}
	s.log.Info("approvals of the policy are not read: the workspace of its repository has no API", "workspace", workspace)
	return nil
}

// approvalLog is the audit log as package approval knows it.
type approvalLog struct {
	reader *auditreader.Approvals
	log    *auditwriter.Log
}

func (l approvalLog) Unapproved(ctx context.Context, since time.Time) ([]approval.Activation, error) {
	rows, err := l.reader.Unapproved(ctx, since)
	list := make([]approval.Activation, len(rows))
	for i, r := range rows {
		list[i] = approval.Activation{Commit: r.Commit, Revision: r.Revision, At: r.At, Commits: strings.Fields(r.Commits), More: r.More}
	}
	return list, err
}

func (l approvalLog) Record(ctx context.Context, e *audit.Event) error { return l.log.Record(ctx, e) }

// approvalsDetail is a detail of /readyz. It decides nothing.
func (s *server) approvalsDetail() any {
	st := s.approvals.Status()
	detail := map[string]any{"open": st.Open, "recorded": st.Recorded}
	if !st.Oldest.IsZero() {
		detail["oldest"] = cli.FormatTimeOrNever(st.Oldest)
	}
	if st.Err != nil {
		detail["error"] = st.Err.Error()
	}
	return detail
}

func (s *server) approvalGauges() {
	m, status := s.metrics, s.approvals.Status
	m.CounterBy("sallyport_policy_approvals_total", "Approvals of activated commits that this instance recorded, by outcome.",
		"outcome", labels(approval.Outcomes), func(outcome string) float64 { return float64(status().Recorded[approval.Outcome(outcome)]) })
	m.Gauge("sallyport_policy_approvals_pending", "Activated commits whose approval is not recorded yet.", func() float64 { return float64(status().Open) })
	m.Gauge("sallyport_policy_approvals_last_successful", "1 where the latest round read every approval that was due; 0 before the first.", func() float64 { return one(status().Read) })
	m.Counter("sallyport_policy_approval_requests_total", "Requests to Bitbucket for pull requests.", func() float64 { return float64(status().Requests) })
}
