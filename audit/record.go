package audit

import (
	"crypto/sha256"
	"net/netip"
	"strconv"
	"strings"
)

// RecordVersion is the version of the record's format, its first field.
const RecordVersion = 1

const timeLayout = "2006-01-02T15:04:05.000000Z"

// AppendRecord appends the event's record to b: one JSON object in UTF-8, fields
// in a fixed order under the columns' names, absent ones left out. The event
// must have been normalised. The result depends on the event alone, so the same
// event always has the same bytes and the same [Leaf].
func (e *Event) AppendRecord(b []byte) []byte {
	return append(e.AppendRest(e.appendFields(b)), '}')
}

// appendFields appends the record up to its last field that is a column.
func (e *Event) appendFields(b []byte) []byte {
	b = append(b, `{"version":`...)
	b = strconv.AppendInt(b, RecordVersion, 10)
	b = append(b, `,"time":"`...)
	b = e.Time.AppendFormat(b, timeLayout)
	b = append(b, '"')
	b = field(b, "kind", string(e.Kind))
	b = field(b, "decision_id", e.DecisionID)
	b = field(b, "writer", e.Writer)
	b = integer(b, "writer_sequence", e.WriterSequence, true)

	b = field(b, "issuer", e.Issuer)
	b = field(b, "credential_kind", e.CredentialKind)
	b = field(b, "workspace_uuid", e.WorkspaceUUID)
	b = field(b, "repository_uuid", e.RepositoryUUID)
	b = field(b, "deployment_uuid", e.DeploymentUUID)
	b = field(b, "pipeline_uuid", e.PipelineUUID)
	b = field(b, "step_uuid", e.StepUUID)
	b = field(b, "workspace", e.Workspace)
	b = field(b, "repository", e.Repository)
	b = field(b, "project", e.Project)
	b = field(b, "deployment", e.Deployment)
	b = field(b, "deployment_type", e.DeploymentType)
	b = field(b, "branch", e.Branch)
	b = address(b, "client_address", e.ClientAddress)
	b = field(b, "listener", e.Listener)

	b = field(b, "action", e.Action)
	b = field(b, "scheme", e.Scheme)
	b = field(b, "host", e.Host)
	b = integer(b, "port", int64(e.Port), false)
	b = field(b, "method", e.Method)
	b = field(b, "path", e.Path)
	b = field(b, "target_raw", e.TargetRaw)

	b = field(b, "verdict", e.Verdict)
	b = field(b, "mode", e.Mode)
	if e.HasWouldDeny() {
		b = append(b, `,"would_deny":`...)
		b = strconv.AppendBool(b, e.WouldDeny)
	}
	b = field(b, "reason", e.Reason)
	b = field(b, "rule", e.Rule)
	b = texts(b, "rules", e.Rules)
	b = texts(b, "exceptions", e.Exceptions)
	b = field(b, "message", e.Message)
	b = field(b, "revision", e.Revision)
	b = field(b, "commit", e.Commit)
	b = field(b, "repository_revision", e.RepositoryRevision)
	b = integer(b, "status", int64(e.Status), false)
	b = field(b, "upstream_proxy", e.UpstreamProxy)
	b = address(b, "dialed_address", e.DialedAddress)
	b = addresses(b, "addresses", e.Addresses)
	b = integer(b, "bytes_sent", e.BytesSent, e.IsClosing())
	b = integer(b, "bytes_received", e.BytesReceived, e.IsClosing())
	b = integer(b, "duration", e.Duration.Microseconds(), e.IsClosing())
	b = field(b, "close_reason", e.CloseReason)
	return integer(b, "upstream_status", int64(e.UpstreamStatus), false)
}

// AppendRest appends what the record has behind the fields that are columns: attributes,
// and the input or its parts, each with a comma before it. It may be nothing.
func (e *Event) AppendRest(b []byte) []byte {
	if len(e.Attributes) > 0 {
		b = append(b, `,"attributes":{`...)
		for i, a := range e.Attributes {
			if i > 0 {
				b = append(b, ',')
			}
			b = quote(b, a.Name)
			b = append(b, ':')
			b = quote(b, a.Value)
		}
		b = append(b, '}')
	}
	return e.appendInput(b)
}

// appendInput appends the input, or its parts where the record has the rest.
func (e *Event) appendInput(b []byte) []byte {
	if len(e.Input) == 0 {
		return b
	}
	parts, used, ok := e.splitInput(b)
	if ok {
		return parts.append(append(used[:len(b)], inputPartsField[:len(inputPartsField)-1]...))
	}
	return append(append(b, `,"input":`...), e.Input...)
}

// HasWouldDeny reports whether would_deny has a meaning for this event: it does
// wherever there is a verdict.
func (e *Event) HasWouldDeny() bool { return e.Verdict != "" }

func field(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = key(b, name)
	return quote(b, value)
}

func integer(b []byte, name string, value int64, always bool) []byte {
	if value == 0 && !always {
		return b
	}
	b = key(b, name)
	return strconv.AppendInt(b, value, 10)
}

func address(b []byte, name string, value netip.Addr) []byte {
	if !value.IsValid() {
		return b
	}
	b = append(key(b, name), '"')
	b = value.AppendTo(b)
	return append(b, '"')
}

func addresses(b []byte, name string, values []netip.Addr) []byte {
	if len(values) == 0 {
		return b
	}
	b = append(key(b, name), '[')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = v.AppendTo(b)
		b = append(b, '"')
	}
	return append(b, ']')
}

func texts(b []byte, name string, values []string) []byte {
	if len(values) == 0 {
		return b
	}
	b = append(key(b, name), '[')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = quote(b, v)
	}
	return append(b, ']')
}

func key(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

// quote appends a JSON string. The value holds no control character and is valid
// UTF-8 (see [Text]), so that only two bytes need an escape.
func quote(b []byte, s string) []byte {
	b = append(b, '"')
	if strings.IndexByte(s, '"') < 0 && strings.IndexByte(s, '\\') < 0 {
		b = append(b, s...)
		return append(b, '"')
	}
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// Leaf is the record's leaf hash in the log's Merkle tree (RFC 6962 section
// 2.1): SHA-256 of a zero byte and the record.
func Leaf(record []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(record)
	return [sha256.Size]byte(h.Sum(nil))
}
