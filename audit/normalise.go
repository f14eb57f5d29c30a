package audit

import (
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Caps on what an outsider can make long, in bytes after escaping. PostgreSQL
// refuses a B-tree entry over about 2,700 bytes, so whatever is indexed stays
// far below that.
const (
	capName  = 512
	capText  = 2048
	capInput = 8 << 10
	capList  = 100 // entries of a list
)

// kindUnknown is the kind of an event whose maker forgot it: the log has no row
// without a kind.
const kindUnknown Kind = "unknown"

// The times that the log can hold: those that its partitions, and a year of
// four digits, can name.
var (
	earliest = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
)

// Normalise makes every field fit to be written, in place, so that no event can
// be refused for what is in it:
//
//   - times are in UTC and truncated to microseconds (PostgreSQL would round),
//   - every string is escaped by [Text] and capped, every list is capped; what was
//     cut has an attribute with the field's name and "_sha256": the digest of the
//     whole value (of a list, of its entries with a line feed behind each),
//   - an input over 8 KiB is left out, with attributes input_sha256 and input_bytes,
//   - an event about a request has a record of at most [MaxRequestRecord] bytes,
//   - addresses have no zone and no IPv4-mapped form,
//   - HTTP statuses lie between 0 and 999.
//
// What does not fit its field at all (an id that is not a UUID in lower-case
// hexadecimal, a time outside the years 1970 to 9999, an input that is not JSON)
// is moved to an attribute with the field's name and "_invalid".
//
// It is idempotent, and must be called before [Event.AppendRecord] and before
// the columns are read.
func (e *Event) Normalise() {
	e.normaliseTime()
	if e.Kind == "" {
		e.Kind = kindUnknown
	}
	for _, id := range [...]struct {
		name  string
		value *string
	}{
		{"decision_id", &e.DecisionID}, {"workspace_uuid", &e.WorkspaceUUID}, {"repository_uuid", &e.RepositoryUUID},
		{"deployment_uuid", &e.DeploymentUUID}, {"pipeline_uuid", &e.PipelineUUID}, {"step_uuid", &e.StepUUID},
	} {
		if *id.value != "" && !isUUID(*id.value) {
			e.invalid(id.name, *id.value)
			*id.value = ""
		}
	}
	if len(e.Input) > capInput {
		e.leaveOutInput()
	}
	if len(e.Input) > 0 && !isInput(e.Input) {
		e.invalid("input", string(e.Input[:min(len(e.Input), capText)]))
		e.Input = nil
	}
	for _, f := range e.names() {
		e.capField(f.name, f.value, capName)
	}
	for _, f := range e.texts() {
		e.capField(f.name, f.value, capText)
	}
	e.Status, e.UpstreamStatus = min(max(e.Status, 0), 999), min(max(e.UpstreamStatus, 0), 999)
	e.ClientAddress, e.DialedAddress = plain(e.ClientAddress), plain(e.DialedAddress)
	e.normaliseLists()
	if e.isAboutRequest() {
		e.capRecord()
	}
}

func (e *Event) normaliseTime() {
	t := e.Time.UTC().Truncate(time.Microsecond)
	if t.Before(earliest) || t.After(latest) {
		e.invalid("time", strconv.FormatInt(t.Unix(), 10)+" seconds since 1970")
		t = earliest
	}
	e.Time = t
	e.Duration = e.Duration.Truncate(time.Microsecond)
}

// normaliseLists clones what it changes: a list may be shared with the policy
// that it came from.
func (e *Event) normaliseLists() {
	e.Rules, e.Exceptions = e.capList("rules", e.Rules), e.capList("exceptions", e.Exceptions)
	e.Addresses = e.Addresses[:min(len(e.Addresses), capList)]
	if slices.ContainsFunc(e.Addresses, func(a netip.Addr) bool { return !a.IsValid() || plain(a) != a }) {
		e.Addresses = slices.DeleteFunc(slices.Clone(e.Addresses), func(a netip.Addr) bool { return !a.IsValid() })
		for i, a := range e.Addresses {
			e.Addresses[i] = plain(a)
		}
	}
	// The content of another field is not recorded again.
	if len(e.Rules) == 1 && e.Rules[0] == e.Rule {
		e.Rules = nil
	}
	if len(e.Addresses) == 1 && e.Addresses[0] == e.DialedAddress {
		e.Addresses = nil
	}
	e.Attributes = e.Attributes[:min(len(e.Attributes), capList)]
	for i := 0; i < len(e.Attributes); i++ {
		e.Attributes[i].Name = Text(e.Attributes[i].Name, capName)
		value, cut := cutText(e.Attributes[i].Value, capText)
		if cut && len(e.Attributes) < capList {
			// Behind its attribute, in a list of this event's own.
			digest := Attribute{Name: Text(e.Attributes[i].Name+"_sha256", capName), Value: digestOf(e.Attributes[i].Value)}
			e.Attributes = slices.Insert(slices.Clone(e.Attributes), i+1, digest)
		}
		e.Attributes[i].Value = value
	}
}

// invalid keeps what does not fit its field.
func (e *Event) invalid(name, value string) { e.note(name+"_invalid", value) }

// plain drops what PostgreSQL's inet has no place for.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// isUUID reports whether s is a UUID as RFC 9562 section 4 writes it, in lower case.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
