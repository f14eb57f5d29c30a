package audit

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strconv"
	"time"
)

// The input of a policy repeats most fields of its event. A record therefore has only
// the parts of the input that no other field has, and the input is rebuilt from both,
// byte for byte. An input of another form is stored whole.

// inputParts are JSON values as they stand in the input; nil: absent.
type inputParts struct {
	Kind           json.RawMessage `json:"kind"`            // of the principal
	DeploymentName json.RawMessage `json:"deployment_name"` // as people wrote it
	Scheme         json.RawMessage `json:"scheme"`          // of the target as it was asked for
	Headers        json.RawMessage `json:"headers"`         // of an HTTP request
}

// inputTime is how the input spells a time (package policy/rego).
const inputTime = "2006-01-02T15:04:05.999999Z"

// inputPartsField is where the parts begin in a record.
const inputPartsField = `,"input_parts":{`

// splitInput gives the parts of the event's input. ok is false where they and the
// other fields do not make exactly that input again.
func (e *Event) splitInput(buffer []byte) (p inputParts, rebuilt []byte, ok bool) {
	rest, ok := bytes.CutPrefix(e.Input, []byte(`{"principal":{"kind":`))
	if !ok {
		return p, buffer, false
	}
	p.Kind = stringAt(rest)
	if at := bytes.Index(rest, []byte(`"deployment":{"uuid":"`)); at >= 0 {
		if deployment := rest[at+len(`"deployment":{"uuid":"`):]; len(deployment) > 37 {
			if name, ok := bytes.CutPrefix(deployment[36:], []byte(`","name":`)); ok {
				p.DeploymentName = stringAt(name)
			}
		}
	}
	if _, target, ok := bytes.Cut(rest, []byte(`,"target":{"scheme":`)); ok {
		p.Scheme = stringAt(target)
	}
	if _, headers, ok := bytes.Cut(rest, []byte(`,"headers":{`)); ok {
		if end := bytes.LastIndex(headers, []byte(`}},"client":{`)); end >= 0 {
			p.Headers = e.Input[len(e.Input)-len(headers)-1:][:end+2]
		}
	}
	rebuilt = p.rebuild(buffer, &inputFields{
		WorkspaceUUID: e.WorkspaceUUID, RepositoryUUID: e.RepositoryUUID, DeploymentUUID: e.DeploymentUUID, PipelineUUID: e.PipelineUUID, StepUUID: e.StepUUID,
		Workspace: e.Workspace, Repository: e.Repository, Project: e.Project, Deployment: e.Deployment, DeploymentType: e.DeploymentType, Branch: e.Branch,
		Action: e.Action, Host: e.Host, Port: int64(e.Port), Method: e.Method, Path: e.Path, ClientAddress: e.ClientAddress, Time: e.Time,
	})
	return p, rebuilt, bytes.Equal(rebuilt[len(buffer):], e.Input)
}

// stringAt is the JSON string that b begins with; nil: it begins with none.
func stringAt(b []byte) json.RawMessage {
	for i := 1; i < len(b) && b[0] == '"'; i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return json.RawMessage(b[:i+1])
		}
	}
	return nil
}

// append appends the parts as an object.
func (p *inputParts) append(b []byte) []byte {
	b = append(b, '{')
	begin := len(b)
	for _, part := range []struct {
		name  string
		value json.RawMessage
	}{{"kind", p.Kind}, {"deployment_name", p.DeploymentName}, {"scheme", p.Scheme}, {"headers", p.Headers}} {
		if part.value == nil {
			continue
		}
		if len(b) > begin {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, part.name...)
		b = append(b, '"', ':')
		b = append(b, part.value...)
	}
	return append(b, '}')
}

// inputFields are the fields of a record that an input repeats.
type inputFields struct {
	WorkspaceUUID, RepositoryUUID, DeploymentUUID, PipelineUUID, StepUUID string
	Workspace, Repository, Project, Deployment, DeploymentType, Branch    string
	Action, Host                                                          string
	Port                                                                  int64
	Method, Path                                                          string
	ClientAddress                                                         netip.Addr
	Time                                                                  time.Time
}

// rebuild appends the input, in the order and spelling of package policy/rego.
func (p *inputParts) rebuild(b []byte, f *inputFields) []byte {
	b = append(append(b, `{"principal":{"kind":`...), p.Kind...)
	b = named(b, `,"workspace":{"uuid":`, f.WorkspaceUUID)
	b = optional(b, `,"slug":`, f.Workspace)
	b = named(b, `},"repository":{"uuid":`, f.RepositoryUUID)
	b = optional(b, `,"full_name":`, f.Repository)
	b = optional(b, `,"project":`, f.Project)
	if f.DeploymentUUID != "" {
		b = named(b, `},"deployment":{"uuid":`, f.DeploymentUUID)
		if p.DeploymentName != nil {
			b = append(append(b, `,"name":`...), p.DeploymentName...)
		}
		b = optional(b, `,"slug":`, f.Deployment)
		b = optional(b, `,"type":`, f.DeploymentType)
	}
	b = named(b, `},"pipeline":{"uuid":`, f.PipelineUUID)
	b = named(b, `},"step":{"uuid":`, f.StepUUID)
	b = optional(append(b, '}'), `,"branch":`, f.Branch)
	b = named(b, `},"action":`, f.Action)
	b = append(b, `,"target":{`...)
	if p.Scheme != nil {
		b = append(append(append(b, `"scheme":`...), p.Scheme...), ',')
	}
	b = named(b, `"host":`, f.Host)
	b = strconv.AppendInt(append(b, `,"port":`...), f.Port, 10)
	if p.Headers != nil {
		b = named(b, `},"request":{"method":`, f.Method)
		b = named(b, `,"path":`, f.Path)
		b = append(append(b, `,"headers":`...), p.Headers...)
	}
	address := ""
	if f.ClientAddress.IsValid() {
		address = f.ClientAddress.String()
	}
	b = named(b, `},"client":{"address":`, address)
	b = append(b, `},"time":"`...)
	b = f.Time.AppendFormat(b, inputTime)
	return append(b, '"', '}')
}

func named(b []byte, name, value string) []byte { return quote(append(b, name...), value) }

func optional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return named(b, name, value)
}
