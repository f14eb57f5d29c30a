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
	capInput = 1 << 20
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
//   - every string is escaped by [Text] and capped, every list is capped,
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
	if len(e.Input) > 0 && !isInput(e.Input) {
		e.invalid("input", string(e.Input[:min(len(e.Input), capText)]))
		e.Input = nil
	}
	for _, s := range [...]*string{
		(*string)(&e.Kind), &e.Writer, &e.Issuer, &e.CredentialKind,
		&e.Workspace, &e.Repository, &e.Project, &e.Deployment, &e.DeploymentType, &e.Branch, &e.Listener,
		&e.Action, &e.Scheme, &e.Host, &e.Method, &e.Verdict, &e.Mode, &e.Reason, &e.Rule,
		&e.Revision, &e.Commit, &e.RepositoryRevision, &e.UpstreamProxy, &e.CloseReason,
	} {
		*s = Text(*s, capName)
	}
	for _, s := range [...]*string{&e.Path, &e.TargetRaw, &e.Message} {
		*s = Text(*s, capText)
	}
	e.Status, e.UpstreamStatus = min(max(e.Status, 0), 999), min(max(e.UpstreamStatus, 0), 999)
	e.ClientAddress, e.DialedAddress = plain(e.ClientAddress), plain(e.DialedAddress)
	e.normaliseLists()
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
	e.Rules, e.Exceptions = cleanList(e.Rules), cleanList(e.Exceptions)
	e.Addresses = e.Addresses[:min(len(e.Addresses), capList)]
	if slices.ContainsFunc(e.Addresses, func(a netip.Addr) bool { return !a.IsValid() || plain(a) != a }) {
		e.Addresses = slices.DeleteFunc(slices.Clone(e.Addresses), func(a netip.Addr) bool { return !a.IsValid() })
		for i, a := range e.Addresses {
			e.Addresses[i] = plain(a)
		}
	}
	// What another field says already is not recorded again.
	if len(e.Rules) == 1 && e.Rules[0] == e.Rule {
		e.Rules = nil
	}
	if len(e.Addresses) == 1 && e.Addresses[0] == e.DialedAddress {
		e.Addresses = nil
	}
	e.Attributes = e.Attributes[:min(len(e.Attributes), capList)]
	for i := range e.Attributes {
		e.Attributes[i].Name = Text(e.Attributes[i].Name, capName)
		e.Attributes[i].Value = Text(e.Attributes[i].Value, capText)
	}
}

func cleanList(list []string) []string {
	list = list[:min(len(list), capList)]
	if slices.ContainsFunc(list, func(s string) bool { return Text(s, capName) != s }) {
		list = slices.Clone(list)
		for i, s := range list {
			list[i] = Text(s, capName)
		}
	}
	return list
}

// invalid keeps what does not fit its field. It goes first, so that the cap on
// the list does not take it.
func (e *Event) invalid(name, value string) {
	e.Attributes = slices.Insert(slices.Clone(e.Attributes), 0, Attribute{Name: name + "_invalid", Value: value})
}

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
