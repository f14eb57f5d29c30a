package audit

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Decided is a decision as its record has it, for a new evaluation.
type Decided struct {
	Kind       Kind // decision, or webhook_received
	ID         string
	Time       time.Time
	Verdict    string
	Mode       string
	WouldDeny  bool
	Reason     string
	Rule       string
	Rules      []string
	Exceptions []string // their places in the policy's documents
	Message    string
	Revision   string
	Commit     string
	// RepositoryRevision is the earlier revision whose rules of the repository took
	// part; empty: those of Revision did.
	RepositoryRevision string
	Workspace          string
	Repository         string
	Deployment         string
	Branch             string
	Action             string
	Host               string
	Port               int

	CredentialKind string

	WorkspaceUUID, RepositoryUUID, DeploymentUUID, PipelineUUID string

	// Routes are the actions that were ordered for a webhook delivery, as text.
	Routes string

	// Input is what policy was asked, byte for byte; nil where it was not asked. It
	// may share the record's memory.
	Input []byte
}

// decidedJSON are the fields of a record that are read.
type decidedJSON struct {
	Kind           Kind      `json:"kind"`
	Time           time.Time `json:"time"`
	DecisionID     string    `json:"decision_id"`
	CredentialKind string    `json:"credential_kind"`
	WorkspaceUUID  string    `json:"workspace_uuid"`
	RepositoryUUID string    `json:"repository_uuid"`
	DeploymentUUID string    `json:"deployment_uuid"`
	PipelineUUID   string    `json:"pipeline_uuid"`
	Workspace      string    `json:"workspace"`
	Repository     string    `json:"repository"`
	Deployment     string    `json:"deployment"`
	Branch         string    `json:"branch"`
	Action         string    `json:"action"`
	Host           string    `json:"host"`
	Port           int       `json:"port"`
	Verdict        string    `json:"verdict"`
	Mode           string    `json:"mode"`
	WouldDeny      bool      `json:"would_deny"`
	Reason         string    `json:"reason"`
	Rule           string    `json:"rule"`
	Rules          []string  `json:"rules"`
	Exceptions     []string  `json:"exceptions"`
	Message        string    `json:"message"`
	Revision       string    `json:"revision"`
	Commit         string    `json:"commit"`
	OwnRevision    string    `json:"repository_revision"`
	Attributes     struct {
		Routes string `json:"routes"`
	} `json:"attributes"`
	Input      json.RawMessage `json:"input"`
	InputParts *inputParts     `json:"input_parts"`
	// What the input alone repeats.
	Project        string     `json:"project"`
	DeploymentType string     `json:"deployment_type"`
	StepUUID       string     `json:"step_uuid"`
	Method         string     `json:"method"`
	Path           string     `json:"path"`
	ClientAddress  netip.Addr `json:"client_address"`
}

// input is what policy was asked; nil where it was not.
func (j *decidedJSON) input() []byte {
	if j.InputParts == nil {
		return j.Input
	}
	return j.InputParts.rebuild(nil, &inputFields{
		WorkspaceUUID: j.WorkspaceUUID, RepositoryUUID: j.RepositoryUUID, DeploymentUUID: j.DeploymentUUID, PipelineUUID: j.PipelineUUID, StepUUID: j.StepUUID,
		Workspace: j.Workspace, Repository: j.Repository, Project: j.Project, Deployment: j.Deployment, DeploymentType: j.DeploymentType, Branch: j.Branch,
		Action: j.Action, Host: j.Host, Port: int64(j.Port), Method: j.Method, Path: j.Path, ClientAddress: j.ClientAddress, Time: j.Time.UTC(),
	})
}

// inputField is where the input of a record of ours begins. Strings hold no bare
// quotation mark and attributes no object, so the first is the one.
const inputField = `,"input":{`

// ReadDecided reads the record of a decision, about a request or a webhook delivery. ok is
// false for one of another kind.
func ReadDecided(record []byte) (d Decided, ok bool, err error) {
	head, input := record, []byte(nil)
	if bytes.HasPrefix(record, []byte(recordHead)) && !isDecided(kindOf(record)) {
		return d, false, nil
	}
	if at := bytes.Index(record, []byte(inputField)); at > 0 && bytes.HasPrefix(record, []byte(recordHead)) {
		// The input is most of it, and is not decoded here.
		input = record[at+len(inputField)-1 : len(record)-1]
		head = append(bytes.Clone(record[:at]), '}')
	}
	var j decidedJSON
	if err := json.Unmarshal(head, &j); err != nil {
		return d, false, fmt.Errorf("a record of the log cannot be read: %w: run `sallyport audit verify` to check the log for damage", err)
	}
	if input == nil {
		input = j.input()
	}
	if j.Rules == nil && j.Rule != "" {
		j.Rules = []string{j.Rule}
	}
	return Decided{
		Kind: j.Kind, ID: j.DecisionID, Time: j.Time.UTC(), Verdict: j.Verdict, Mode: j.Mode, WouldDeny: j.WouldDeny, Reason: j.Reason,
		Rule: j.Rule, Rules: j.Rules, Exceptions: j.Exceptions, Message: j.Message, Revision: j.Revision, Commit: j.Commit, RepositoryRevision: j.OwnRevision,
		Workspace: j.Workspace, Repository: j.Repository, Deployment: j.Deployment, Branch: j.Branch,
		Action: j.Action, Host: j.Host, Port: j.Port, CredentialKind: j.CredentialKind,
		WorkspaceUUID: j.WorkspaceUUID, RepositoryUUID: j.RepositoryUUID, DeploymentUUID: j.DeploymentUUID, PipelineUUID: j.PipelineUUID,
		Routes: j.Attributes.Routes, Input: input,
	}, isDecided(j.Kind), nil
}

// isDecided reports whether an event is a decision that a policy may have made.
func isDecided(k Kind) bool { return k == KindDecision || k == KindWebhookReceived }

// EachRecord gives the records of an export, sealed or not, in its order, without
// verifying anything: that is what a [Verification] does. What f is given holds
// until it returns; an error of f ends the reading.
func EachRecord(r io.Reader, f func(record []byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 1<<18), maxLine)
	ended := false
	for n := 1; lines.Scan(); n++ {
		line := lines.Bytes()
		if n == 1 {
			if string(line) != exportHead {
				return fmt.Errorf("%w: make one with `sallyport audit export`", ErrExport)
			}
			continue
		}
		record, end, err := recordOf(line)
		if err != nil {
			return fmt.Errorf("line %d of the export: %w", n, err)
		}
		ended = ended || end
		if record == nil {
			continue
		}
		if err := f(record); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the export: %w", err)
	}
	if !ended {
		return errors.New("the export has no end: it was cut off")
	}
	return nil
}

// recordOf is the record in a line, nil where there is none.
func recordOf(line []byte) (record []byte, end bool, err error) {
	rest := line
	if after, ok := bytes.CutPrefix(rest, []byte(leafField)); ok {
		if comma := bytes.IndexByte(after, ','); comma > 0 {
			rest = after[comma+1:]
		}
	} else {
		rest = bytes.TrimPrefix(rest, []byte("{"))
	}
	if after, ok := bytes.CutPrefix(rest, []byte(recordPart)); ok && len(after) > 1 && after[len(after)-1] == '}' {
		return after[:len(after)-1], false, nil
	}
	var l exportLine
	if err := json.Unmarshal(line, &l); err != nil {
		return nil, false, errors.New("it is not a line of an export")
	}
	if l.Base64 == nil {
		return nil, l.End != nil, nil
	}
	record, err = base64.StdEncoding.DecodeString(*l.Base64)
	return record, false, err
}

// ReadClosed reads the decision and the close reason from the record of a closed tunnel or
// request, or of a tunnel that report mode let continue. ok is false for a record of another
// kind, or one that cannot be read.
func ReadClosed(record []byte) (decisionID, closeReason string, ok bool) {
	switch kindOf(record) {
	case KindTunnelClosed, KindRequestClosed, KindWouldClose:
	default:
		return "", "", false
	}
	var j struct {
		DecisionID  string `json:"decision_id"`
		CloseReason string `json:"close_reason"`
	}
	if err := json.Unmarshal(record, &j); err != nil {
		return "", "", false
	}
	return j.DecisionID, j.CloseReason, true
}
