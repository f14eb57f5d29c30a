package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// MaxRequestRecord is the maximum size in bytes of the record of an event about a
// request: of a decision, and of an end. Neither a client nor the author of a rule can
// make an event longer. [Event.Normalise] truncates what exceeds it; such an event is
// still recorded.
const MaxRequestRecord = 16 << 10

// Caps of an event that is too long although each of its fields is within its own
// cap, so that the sum stays below [MaxRequestRecord] even if each byte is escaped.
const (
	tightName       = 96
	tightText       = 256
	tightList       = 4  // entries
	tightAttributes = 12 // entries
	tightValue      = 128
	tightAddresses  = 16
	// numbering is room for the writer's name and number, which the log adds.
	numbering = 256
)

// textField is a field of an event that holds text.
type textField struct {
	name  string
	value *string
}

// names are the fields that hold a name or a word.
func (e *Event) names() [24]textField {
	return [...]textField{
		{"kind", (*string)(&e.Kind)}, {"writer", &e.Writer}, {"issuer", &e.Issuer}, {"credential_kind", &e.CredentialKind},
		{"workspace", &e.Workspace}, {"repository", &e.Repository}, {"project", &e.Project}, {"deployment", &e.Deployment},
		{"deployment_type", &e.DeploymentType}, {"branch", &e.Branch}, {"listener", &e.Listener},
		{"action", &e.Action}, {"scheme", &e.Scheme}, {"host", &e.Host}, {"method", &e.Method}, {"verdict", &e.Verdict},
		{"mode", &e.Mode}, {"reason", &e.Reason}, {"rule", &e.Rule},
		{"revision", &e.Revision}, {"commit", &e.Commit}, {"repository_revision", &e.RepositoryRevision}, {"upstream_proxy", &e.UpstreamProxy}, {"close_reason", &e.CloseReason},
	}
}

// texts are the fields that hold text of any length.
func (e *Event) texts() [3]textField {
	return [...]textField{{"path", &e.Path}, {"target_raw", &e.TargetRaw}, {"message", &e.Message}}
}

// isAboutRequest reports whether a client, or the author of a rule, can cause the
// event and choose what is in it.
func (e *Event) isAboutRequest() bool {
	switch e.Kind {
	case KindDecision, KindWouldClose, KindTargetEvaluated, KindNetworkChecked:
		return true
	}
	return e.IsClosing()
}

// capField escapes and caps a field, and notes the digest of what was cut.
func (e *Event) capField(name string, value *string, limit int) {
	capped, cut := cutText(*value, limit)
	if cut {
		e.note(name+"_sha256", digestOf(*value))
	}
	*value = capped
}

// capList escapes and caps a list, which may be shared with the policy that it
// came from, and notes the digest of what was cut.
func (e *Event) capList(name string, list []string) []string {
	capped, cut := list[:min(len(list), capList)], len(list) > capList
	for i, s := range capped {
		text, wasCut := cutText(s, capName)
		cut = cut || wasCut
		if text != s {
			if &capped[0] == &list[0] {
				capped = slices.Clone(capped)
			}
			capped[i] = text
		}
	}
	if cut {
		h := sha256.New()
		for _, s := range list {
			h.Write([]byte(s))
			h.Write([]byte{'\n'})
		}
		e.note(name+"_sha256", hex.EncodeToString(h.Sum(nil)))
	}
	return capped
}

// leaveOutInput replaces the input by its digest: a part of an input would be
// evaluated to another decision.
func (e *Event) leaveOutInput() {
	if len(e.Input) == 0 {
		return
	}
	e.note("input_bytes", strconv.Itoa(len(e.Input)))
	e.note("input_sha256", digestOf(string(e.Input)))
	e.Input = nil
}

// capRecord cuts an event whose fields are long together. The digest that it notes
// is that of the record before the cut, without the writer's number.
func (e *Event) capRecord() {
	const limit = MaxRequestRecord - numbering
	if 2*e.textBytes()+2048 <= limit {
		return
	}
	unnumbered := *e
	unnumbered.Writer, unnumbered.WriterSequence = "", 0
	record := unnumbered.AppendRecord(nil)
	if len(record) <= limit {
		return
	}
	if len(e.Input) > 0 {
		e.leaveOutInput()
		e.capRecord()
		return
	}
	for _, f := range e.names() {
		*f.value = Text(*f.value, tightName)
	}
	for _, f := range e.texts() {
		*f.value = Text(*f.value, tightText)
	}
	e.Rules, e.Exceptions = tighten(e.Rules), tighten(e.Exceptions)
	e.Addresses = e.Addresses[:min(len(e.Addresses), tightAddresses)]
	e.Attributes = slices.Clone(e.Attributes[:min(len(e.Attributes), tightAttributes)])
	for i, a := range e.Attributes {
		e.Attributes[i] = Attribute{Name: Text(a.Name, tightName), Value: Text(a.Value, tightValue)}
	}
	e.note("event_bytes", strconv.Itoa(len(record)))
	e.note("event_sha256", digestOf(string(record)))
}

func tighten(list []string) []string {
	short := slices.Clone(list[:min(len(list), tightList)])
	for i, s := range short {
		short[i] = Text(s, tightName)
	}
	return short
}

// Detach copies the fields that may be parts of a longer text, such as the head of a
// request, so that the event keeps no more memory than [Event.Size] reports.
func (e *Event) Detach() {
	for _, s := range [...]*string{&e.Host, &e.Method, &e.Path, &e.TargetRaw} {
		*s = strings.Clone(*s)
	}
}

// Size is about how many bytes of memory the event takes.
func (e *Event) Size() int { return 1024 + e.textBytes() }

// textBytes is how many bytes of text the event has, before JSON escapes them.
func (e *Event) textBytes() int {
	n := len(e.Input) + 48*len(e.Addresses)
	for _, f := range e.names() {
		n += len(*f.value)
	}
	for _, f := range e.texts() {
		n += len(*f.value)
	}
	for _, list := range [...][]string{e.Rules, e.Exceptions} {
		for _, s := range list {
			n += len(s) + 4
		}
	}
	for _, a := range e.Attributes {
		n += len(a.Name) + len(a.Value) + 8
	}
	return n
}

// note puts an attribute in front, where the cap on the list does not take it.
func (e *Event) note(name, value string) {
	e.Attributes = slices.Insert(slices.Clone(e.Attributes), 0, Attribute{Name: name, Value: value})
}

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
