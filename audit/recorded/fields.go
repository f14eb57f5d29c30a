package recorded

import "encoding/json"

// recordField is a field of a record: its name, and how its value is read. The event is nil
// where the value is only skipped.
type recordField struct {
	name string
	read func(*scanner, *Event)
}

// recordFields are the fields of a record in the order in which [audit.Event.AppendRecord]
// writes them. The functions are made once and use no reflection: a pack calls one for each
// field of each record.
var recordFields = []recordField{
	{"version", func(s *scanner, _ *Event) { s.number() }},
	text("time", func(e *Event) *string { return &e.Time }),
	text("kind", func(e *Event) *string { return &e.Kind }),
	text("decision_id", func(e *Event) *string { return &e.DecisionID }),
	text("writer", func(e *Event) *string { return &e.Writer }),
	number("writer_sequence", func(e *Event) *int64 { return &e.WriterSequence }),
	text("issuer", func(e *Event) *string { return &e.Issuer }),
	text("credential_kind", func(e *Event) *string { return &e.CredentialKind }),
	text("workspace_uuid", func(e *Event) *string { return &e.WorkspaceUUID }),
	text("repository_uuid", func(e *Event) *string { return &e.RepositoryUUID }),
	text("deployment_uuid", func(e *Event) *string { return &e.DeploymentUUID }),
	text("pipeline_uuid", func(e *Event) *string { return &e.PipelineUUID }),
	text("step_uuid", func(e *Event) *string { return &e.StepUUID }),
	text("workspace", func(e *Event) *string { return &e.Workspace }),
	text("repository", func(e *Event) *string { return &e.Repository }),
	text("project", func(e *Event) *string { return &e.Project }),
	text("deployment", func(e *Event) *string { return &e.Deployment }),
	text("deployment_type", func(e *Event) *string { return &e.DeploymentType }),
	text("branch", func(e *Event) *string { return &e.Branch }),
	text("client_address", func(e *Event) *string { return &e.ClientAddress }),
	text("listener", func(e *Event) *string { return &e.Listener }),
	text("action", func(e *Event) *string { return &e.Action }),
	text("scheme", func(e *Event) *string { return &e.Scheme }),
	text("host", func(e *Event) *string { return &e.Host }),
	number("port", func(e *Event) *int { return &e.Port }),
	text("method", func(e *Event) *string { return &e.Method }),
	text("path", func(e *Event) *string { return &e.Path }),
	text("target_raw", func(e *Event) *string { return &e.TargetRaw }),
	text("verdict", func(e *Event) *string { return &e.Verdict }),
	text("mode", func(e *Event) *string { return &e.Mode }),
	{"would_deny", func(s *scanner, e *Event) {
		if value := s.boolean(); e != nil {
			e.WouldDeny = value
		}
	}},
	text("reason", func(e *Event) *string { return &e.Reason }),
	text("rule", func(e *Event) *string { return &e.Rule }),
	list("rules", func(e *Event) *[]string { return &e.Rules }),
	list("exceptions", func(e *Event) *[]string { return &e.Exceptions }),
	text("message", func(e *Event) *string { return &e.Message }),
	text("revision", func(e *Event) *string { return &e.Revision }),
	text("commit", func(e *Event) *string { return &e.Commit }),
	text("repository_revision", func(e *Event) *string { return &e.OwnRevision }),
	number("status", func(e *Event) *int { return &e.Status }),
	text("upstream_proxy", func(e *Event) *string { return &e.UpstreamProxy }),
	text("dialed_address", func(e *Event) *string { return &e.DialedAddress }),
	{"addresses", func(s *scanner, _ *Event) { s.list() }},
	number("bytes_sent", func(e *Event) *int64 { return &e.BytesSent }),
	number("bytes_received", func(e *Event) *int64 { return &e.BytesReceived }),
	number("duration", func(e *Event) *int64 { return &e.Duration }),
	text("close_reason", func(e *Event) *string { return &e.CloseReason }),
	number("upstream_status", func(e *Event) *int { return &e.UpstreamStatus }),
	{"attributes", func(s *scanner, e *Event) {
		if object := s.object(); e != nil {
			e.Attributes = object
		}
	}},
	{"input_parts", skipInput},
	{"input", skipInput},
}

func text(name string, field func(*Event) *string) recordField {
	return recordField{name, func(s *scanner, e *Event) {
		if value := s.text(); e != nil {
			*field(e) = value
		}
	}}
}

func number[N int | int64](name string, field func(*Event) *N) recordField {
	return recordField{name, func(s *scanner, e *Event) {
		if value := s.number(); e != nil {
			*field(e) = N(value)
		}
	}}
}

func list(name string, field func(*Event) *[]string) recordField {
	return recordField{name, func(s *scanner, e *Event) {
		if value := s.list(); e != nil {
			*field(e) = value
		}
	}}
}

// skipInput skips the input of a decision or its parts, which may be any JSON object and are
// the last field of a record. If the event is read, the input is not checked.
func skipInput(s *scanner, e *Event) {
	if len(s.rest) == 0 || s.rest[0] != '{' {
		s.failed = true
		return
	}
	if e != nil {
		s.rest = closingBrace
		return
	}
	end := objectEnd(s.rest)
	if end < 0 || !json.Valid(s.rest[:end]) {
		s.failed = true
		return
	}
	s.rest = s.rest[end:]
}

var closingBrace = []byte("}")
