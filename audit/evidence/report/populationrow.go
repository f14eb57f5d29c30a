package report

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/audit"
)

// PopulationColumns are those of population.csv, named as in audit.decisions. What
// is fetched of a pipeline later, its build number, is not sealed and not here. The
// origin comes third, behind columns without quotation marks, so that lines can be
// distinguished without a CSV parser: client, or self_test for a probe of our own.
var PopulationColumns = []string{
	"time", "decision_id", "origin", "verdict", "reason", "rule", "mode", "would_deny",
	"workspace", "repository", "project", "deployment", "deployment_type", "branch",
	"action", "scheme", "host", "port", "method", "path", "target_raw",
	"status", "message", "rules", "revision", "commit", "repository_revision", "upstream_proxy", "dialed_address",
	"closed_at", "close_reason", "bytes_sent", "bytes_received", "duration_microseconds", "upstream_status",
	"workspace_uuid", "repository_uuid", "deployment_uuid", "pipeline_uuid", "step_uuid",
	"issuer", "credential_kind", "client_address", "listener", "writer", "writer_sequence", "leaf", "end_leaf",
}

// writePopulationRow writes a decision for a spreadsheet.
func writePopulationRow(c *audit.CSV, d *Decision) error {
	closed, cause, sent, received, duration, upstream, endLeaf := "", "", "", "", "", "", ""
	address := d.DialedAddress
	if d.End != nil {
		closed, cause, upstream = d.End.Time, d.End.CloseReason, number(d.End.UpstreamStatus)
		sent, received, duration = whole(d.End.BytesSent), whole(d.End.BytesReceived), whole(d.End.Duration)
		endLeaf = whole(d.endLeaf)
		if d.End.DialedAddress != "" {
			address = d.End.DialedAddress
		}
	}
	return c.Write(
		d.Time, d.DecisionID, d.Origin(), d.Verdict, d.Reason, d.Rule, d.Mode, strconv.FormatBool(d.WouldDeny),
		d.Workspace, d.Repository, d.Project, d.Deployment, d.DeploymentType, d.Branch,
		d.Action, d.Scheme, d.Host, number(d.Port), d.Method, d.Path, d.TargetRaw,
		number(d.Status), d.Message, cmp.Or(strings.Join(d.Rules, " "), d.Rule), d.Revision, d.Commit, d.OwnRevision, d.UpstreamProxy, address,
		closed, cause, sent, received, duration, upstream,
		d.WorkspaceUUID, d.RepositoryUUID, d.DeploymentUUID, d.PipelineUUID, d.StepUUID,
		d.Issuer, d.CredentialKind, d.ClientAddress, d.Listener, d.Writer, whole(d.WriterSequence), whole(d.leaf), endLeaf,
	)
}
