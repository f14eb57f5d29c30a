package evidence

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// A record of ours has one form (see audit.Event.AppendRecord): known names, no space,
// strings in which only a quotation mark and a backslash are escaped. Reading just that
// takes a tenth of what encoding/json takes. Whatever has another form is left to
// encoding/json, so that both give the same or this one gives nothing.

// scanner reads a record from its beginning. It fails once and for good.
type scanner struct {
	rest   []byte
	failed bool
	dry    bool // nothing is kept of what is read
}

func (s *scanner) take(c byte) bool {
	if s.failed || len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) want(c byte) {
	if !s.take(c) {
		s.failed = true
	}
}

// bytes reads a string without its quotation marks. escaped reports that it has escapes.
func (s *scanner) bytes() (raw []byte, escaped bool) {
	s.want('"')
	if s.failed {
		return nil, false
	}
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			raw, s.rest = s.rest[:i], s.rest[i+1:]
			if !utf8.Valid(raw) {
				s.failed = true
			}
			return raw, escaped
		case c == '\\':
			escaped = true
			if i++; i == len(s.rest) || s.rest[i] != '"' && s.rest[i] != '\\' {
				s.failed = true
				return nil, false
			}
		case c < 0x20:
			s.failed = true
			return nil, false
		}
	}
	s.failed = true
	return nil, false
}

func (s *scanner) text() string {
	raw, escaped := s.bytes()
	switch {
	case s.dry:
		return ""
	case !escaped:
		return string(raw)
	}
	b := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' {
			i++
		}
		b = append(b, raw[i])
	}
	return string(b)
}

func (s *scanner) number() (n int64) {
	i := 0
	for i < len(s.rest) && i < 18 && s.rest[i] >= '0' && s.rest[i] <= '9' {
		n = n*10 + int64(s.rest[i]-'0')
		i++
	}
	if i == 0 || i > 1 && s.rest[0] == '0' || i == len(s.rest) || s.rest[i] != ',' && s.rest[i] != '}' {
		s.failed = true // negative, fractional, too large, or no number
		return 0
	}
	s.rest = s.rest[i:]
	return n
}

func (s *scanner) truth() bool {
	for _, c := range []struct {
		text string
		is   bool
	}{{"true", true}, {"false", false}} {
		if rest, ok := bytes.CutPrefix(s.rest, []byte(c.text)); ok {
			s.rest = rest
			return c.is
		}
	}
	s.failed = true
	return false
}

func (s *scanner) list() []string {
	s.want('[')
	var list []string
	for !s.failed {
		if text := s.text(); !s.dry {
			list = append(list, text)
		}
		if s.take(']') {
			return list
		}
		s.want(',')
	}
	return nil
}

func (s *scanner) object() map[string]string {
	s.want('{')
	var m map[string]string
	if !s.dry {
		m = map[string]string{}
	}
	for !s.failed {
		name := s.text()
		s.want(':')
		if text := s.text(); !s.dry {
			m[name] = text
		}
		if s.take('}') {
			return m
		}
		s.want(',')
	}
	return nil
}

// scanRecord reads a record without its input; nil where it has another form.
func scanRecord(head []byte) *recordFields {
	s, r := scanner{rest: head}, new(recordFields)
	if !s.record(r) || len(s.rest) > 0 {
		return nil
	}
	return r
}

// record reads the fields of a record up to its end.
func (s *scanner) record(r *recordFields) bool {
	s.want('{')
	for !s.failed {
		name, escaped := s.bytes()
		s.want(':')
		if escaped || s.failed || !s.field(r, name) {
			return false
		}
		if s.take('}') {
			return true
		}
		s.want(',')
	}
	return false
}

// field reads the value of a field. It is false for one that is not known here:
// encoding/json might take it for another.
func (s *scanner) field(r *recordFields, name []byte) bool {
	switch string(name) {
	case "time":
		r.Time = s.text()
	case "kind":
		r.Kind = s.text()
	case "decision_id":
		r.DecisionID = s.text()
	case "writer":
		r.Writer = s.text()
	case "issuer":
		r.Issuer = s.text()
	case "credential_kind":
		r.CredentialKind = s.text()
	case "workspace_uuid":
		r.WorkspaceUUID = s.text()
	case "repository_uuid":
		r.RepositoryUUID = s.text()
	case "deployment_uuid":
		r.DeploymentUUID = s.text()
	case "pipeline_uuid":
		r.PipelineUUID = s.text()
	case "step_uuid":
		r.StepUUID = s.text()
	case "workspace":
		r.Workspace = s.text()
	case "repository":
		r.Repository = s.text()
	case "project":
		r.Project = s.text()
	case "deployment":
		r.Deployment = s.text()
	case "deployment_type":
		r.DeploymentType = s.text()
	case "branch":
		r.Branch = s.text()
	case "client_address":
		r.ClientAddress = s.text()
	case "listener":
		r.Listener = s.text()
	case "action":
		r.Action = s.text()
	case "scheme":
		r.Scheme = s.text()
	case "host":
		r.Host = s.text()
	case "method":
		r.Method = s.text()
	case "path":
		r.Path = s.text()
	case "target_raw":
		r.TargetRaw = s.text()
	case "verdict":
		r.Verdict = s.text()
	case "mode":
		r.Mode = s.text()
	case "reason":
		r.Reason = s.text()
	case "rule":
		r.Rule = s.text()
	case "message":
		r.Message = s.text()
	case "revision":
		r.Revision = s.text()
	case "commit":
		r.Commit = s.text()
	case "repository_revision":
		r.OwnRevision = s.text()
	case "upstream_proxy":
		r.UpstreamProxy = s.text()
	case "dialed_address":
		r.DialedAddress = s.text()
	case "close_reason":
		r.CloseReason = s.text()
	case "writer_sequence":
		r.WriterSequence = s.number()
	case "port":
		r.Port = int(s.number())
	case "status":
		r.Status = int(s.number())
	case "bytes_sent":
		r.BytesSent = s.number()
	case "bytes_received":
		r.BytesReceived = s.number()
	case "duration":
		r.Duration = s.number()
	case "upstream_status":
		r.UpstreamStatus = int(s.number())
	case "would_deny":
		r.WouldDeny = s.truth()
	case "rules":
		r.Rules = s.list()
	case "exceptions":
		r.Exceptions = s.list()
	case "attributes":
		r.Attributes = s.object()
	case "version":
		s.number()
	case "addresses":
		s.list()
	case "input": // which encoding/json skips as well
		end := objectEnd(s.rest)
		if !s.dry || end < 0 || s.rest[0] != '{' || !json.Valid(s.rest[:end]) {
			return false
		}
		s.rest = s.rest[end:]
	default:
		return false
	}
	return !s.failed
}

// isRecordJSON reports whether a record is JSON, as json.Valid does.
func isRecordJSON(record []byte) bool {
	s, r := scanner{rest: record, dry: true}, new(recordFields)
	if s.record(r) && len(s.rest) == 0 {
		return true
	}
	return json.Valid(record)
}

// objectEnd is where the JSON object ends that a text begins with, as far as strings
// and brackets tell; -1: nowhere. What is in it has to be checked besides.
func objectEnd(b []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}
