// Package recorded reads the records of the log: the JSON that [audit.Event.AppendRecord]
// writes. Records in that form are read without encoding/json; all others by it.
package recorded

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strconv"

	"github.com/sallyport/sallyport/audit"
)

// Event are the fields of a record that a pack uses.
type Event struct {
	Time           string            `json:"time"`
	Kind           string            `json:"kind"`
	DecisionID     string            `json:"decision_id"`
	Writer         string            `json:"writer"`
	WriterSequence int64             `json:"writer_sequence"`
	Issuer         string            `json:"issuer"`
	CredentialKind string            `json:"credential_kind"`
	WorkspaceUUID  string            `json:"workspace_uuid"`
	RepositoryUUID string            `json:"repository_uuid"`
	DeploymentUUID string            `json:"deployment_uuid"`
	PipelineUUID   string            `json:"pipeline_uuid"`
	StepUUID       string            `json:"step_uuid"`
	Workspace      string            `json:"workspace"`
	Repository     string            `json:"repository"`
	Project        string            `json:"project"`
	Deployment     string            `json:"deployment"`
	DeploymentType string            `json:"deployment_type"`
	Branch         string            `json:"branch"`
	ClientAddress  string            `json:"client_address"`
	Listener       string            `json:"listener"`
	Action         string            `json:"action"`
	Scheme         string            `json:"scheme"`
	Host           string            `json:"host"`
	Port           int               `json:"port"`
	Method         string            `json:"method"`
	Path           string            `json:"path"`
	TargetRaw      string            `json:"target_raw"`
	Verdict        string            `json:"verdict"`
	Mode           string            `json:"mode"`
	WouldDeny      bool              `json:"would_deny"`
	Reason         string            `json:"reason"`
	Rule           string            `json:"rule"`
	Rules          []string          `json:"rules"`
	Exceptions     []string          `json:"exceptions"`
	Message        string            `json:"message"`
	Revision       string            `json:"revision"`
	Commit         string            `json:"commit"`
	OwnRevision    string            `json:"repository_revision"`
	Status         int               `json:"status"`
	UpstreamProxy  string            `json:"upstream_proxy"`
	DialedAddress  string            `json:"dialed_address"`
	BytesSent      int64             `json:"bytes_sent"`
	BytesReceived  int64             `json:"bytes_received"`
	Duration       int64             `json:"duration"` // microseconds
	CloseReason    string            `json:"close_reason"`
	UpstreamStatus int               `json:"upstream_status"`
	Attributes     map[string]string `json:"attributes"`
}

const (
	recordHead = `{"version":1,"time":"`
	kindField  = `","kind":"`
	timeLength = len("2006-01-02T15:04:05.000000Z")
)

// Read reads a record except for its input, which is not checked either: it is most of a
// record.
func Read(record []byte) (*Event, error) {
	if e := scanRecord(record); e != nil {
		return e, nil
	}
	e := new(Event)
	if err := json.Unmarshal(withoutInput(record), e); err != nil {
		return nil, fmt.Errorf("a record cannot be read: %w", err)
	}
	return e, nil
}

// withoutInput returns a record without its input, or without the parts of it, which are its
// last field.
func withoutInput(record []byte) []byte {
	if !bytes.HasPrefix(record, []byte(recordHead)) {
		return record
	}
	for _, field := range []string{`,"input_parts":{`, `,"input":{`} {
		// No other field can contain this text: a string has no quotation mark, and an
		// attribute no object.
		if at := bytes.Index(record, []byte(field)); at > 0 {
			return append(bytes.Clone(record[:at]), '}')
		}
	}
	return record
}

// Peek is the time and the kind of a record; empty where it is not a record of ours.
func Peek(record []byte) (at, kind string) {
	if rest, ok := bytes.CutPrefix(record, []byte(recordHead)); ok && len(rest) > timeLength+len(kindField) {
		if after, ok := bytes.CutPrefix(rest[timeLength:], []byte(kindField)); ok {
			if end := bytes.IndexByte(after[:min(len(after), 512)], '"'); end > 0 {
				return string(rest[:timeLength]), string(after[:end])
			}
		}
	}
	s, err := Read(record)
	if err != nil {
		return "", ""
	}
	return s.Time, s.Kind
}

// Target is where a decision was to go.
func (s *Event) Target() string {
	if s.Host == "" {
		return ""
	}
	return net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
}

// Client is the client of a decision: the repository by its name or UUID, and where
// none was verified the address.
func (s *Event) Client() string {
	switch {
	case s.Repository != "":
		return s.Repository
	case s.RepositoryUUID != "":
		return s.RepositoryUUID
	case s.ClientAddress != "":
		return "unverified client, from " + s.ClientAddress
	}
	return "unverified client"
}

// selfTest is the credential_kind of the probes of our own, which no other
// decision has (package internal/selftest).
const selfTest = "self_test"

// IsProbe reports whether a decision is about a probe of the self-test.
func (s *Event) IsProbe() bool { return s.CredentialKind == selfTest }

// Origin is the source of a decision: a client, usually a pipeline, or a probe.
func (s *Event) Origin() string {
	if s.IsProbe() {
		return selfTest
	}
	return "client"
}

func (s *Event) DeploymentName() string {
	if s.Deployment != "" {
		return s.Deployment
	}
	return s.DeploymentUUID
}

// IsClosing reports whether a kind ends what a decision began.
func IsClosing(kind string) bool {
	return kind == string(audit.KindTunnelClosed) || kind == string(audit.KindRequestClosed)
}
