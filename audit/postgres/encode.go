package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Columns are the columns of audit.events in the order of [AppendTuple].
var Columns = []string{
	"time", "writer_sequence", "port", "status", "upstream_status", "would_deny", "bytes_sent", "bytes_received", "duration",
	"decision_id", "workspace_uuid", "repository_uuid", "deployment_uuid", "pipeline_uuid", "step_uuid",
	"writer", "kind", "issuer", "credential_kind", "workspace", "repository", "project", "deployment", "deployment_type", "branch",
	"client_address", "listener", "action", "scheme", "host", "method", "path", "target_raw",
	"verdict", "mode", "reason", "rule", "rules", "exceptions", "message", "revision", "commit", "repository_revision", "upstream_proxy", "dialed_address", "addresses", "close_reason", "record_rest", "record",
}

// PostgreSQL documentation, "COPY", "Binary Format".
const (
	CopyHeader  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	CopyTrailer = "\xff\xff"
)

var CopySQL = "COPY audit.events (" + strings.Join(Columns, ", ") + ") FROM STDIN (FORMAT binary)"

// What PostgreSQL counts from, and the types of array elements (pg_type.dat).
const (
	Epoch   = 946684800_000000 // 2000-01-01 in microseconds since 1970
	oidText = 25
	oidInet = 869
)

// AppendTuple appends a normalised event as one tuple of binary COPY. A column
// is null exactly where the record has no such field.
func AppendTuple(b []byte, e *audit.Event) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(Columns)))
	b = appendInt64(b, e.Time.UnixMicro()-Epoch, true)
	b = appendInt64(b, e.WriterSequence, true)
	b = appendInt32(b, int32(e.Port))
	b = appendInt32(b, int32(e.Status))
	b = appendInt32(b, int32(e.UpstreamStatus))
	b = appendBool(b, e.WouldDeny, e.HasWouldDeny())
	closing := e.IsClosing()
	b = appendInt64(b, e.BytesSent, closing)
	b = appendInt64(b, e.BytesReceived, closing)
	b = appendInterval(b, e.Duration, closing)
	for _, id := range [...]string{e.DecisionID, e.WorkspaceUUID, e.RepositoryUUID, e.DeploymentUUID, e.PipelineUUID, e.StepUUID} {
		b = appendUUID(b, id)
	}
	for _, s := range [...]string{
		e.Writer, string(e.Kind), e.Issuer, e.CredentialKind,
		e.Workspace, e.Repository, e.Project, e.Deployment, e.DeploymentType, e.Branch,
	} {
		b = appendText(b, s)
	}
	b = appendInet(b, e.ClientAddress)
	for _, s := range [...]string{
		e.Listener, e.Action, e.Scheme, e.Host, e.Method, e.Path, e.TargetRaw,
		e.Verdict, e.Mode, e.Reason, e.Rule,
	} {
		b = appendText(b, s)
	}
	b = appendTexts(b, e.Rules)
	b = appendTexts(b, e.Exceptions)
	b = appendText(b, e.Message)
	b = appendText(b, e.Revision)
	b = appendText(b, e.Commit)
	b = appendText(b, e.RepositoryRevision)
	b = appendText(b, e.UpstreamProxy)
	b = appendInet(b, e.DialedAddress)
	b = appendInets(b, e.Addresses)
	b = appendText(b, e.CloseReason)

	if followsFromColumns(e) {
		return AppendNull(appendRest(b, e))
	}
	b = AppendNull(b)
	at := len(b)
	b = e.AppendRecord(append(b, 0, 0, 0, 0))
	return patchLength(b, at)
}

// patchLength writes the length of what follows the four bytes at.
func patchLength(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

func AppendNull(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff) }

func appendInt64(b []byte, v int64, always bool) []byte {
	if v == 0 && !always {
		return AppendNull(b)
	}
	return binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), uint64(v))
}

func appendInt32(b []byte, v int32) []byte {
	if v == 0 {
		return AppendNull(b)
	}
	return binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 4), uint32(v))
}

func appendBool(b []byte, v, present bool) []byte {
	switch {
	case !present:
		return AppendNull(b)
	case v:
		return append(b, 0, 0, 0, 1, 1)
	default:
		return append(b, 0, 0, 0, 1, 0)
	}
}

func appendInterval(b []byte, d time.Duration, always bool) []byte {
	if d == 0 && !always {
		return AppendNull(b)
	}
	b = binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 16), uint64(d.Microseconds()))
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0) // days and months: none
}

func appendText(b []byte, s string) []byte {
	if s == "" {
		return AppendNull(b)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// appendUUID takes the canonical form only, which is what normalising leaves.
func appendUUID(b []byte, s string) []byte {
	if len(s) != 36 {
		return AppendNull(b)
	}
	var text [32]byte
	copy(text[0:8], s[0:8])
	copy(text[8:12], s[9:13])
	copy(text[12:16], s[14:18])
	copy(text[16:20], s[19:23])
	copy(text[20:32], s[24:36])
	var id [16]byte
	if _, err := hex.Decode(id[:], text[:]); err != nil {
		return AppendNull(b)
	}
	return append(append(b, 0, 0, 0, 16), id[:]...)
}

func appendInet(b []byte, a netip.Addr) []byte {
	switch {
	case a.Is4():
		raw := a.As4()
		return append(append(b, 0, 0, 0, 8, 2, 32, 0, 4), raw[:]...)
	case a.Is6():
		raw := a.As16()
		return append(append(b, 0, 0, 0, 20, 3, 128, 0, 16), raw[:]...)
	default:
		return AppendNull(b)
	}
}

func appendTexts(b []byte, list []string) []byte {
	if len(list) == 0 {
		return AppendNull(b)
	}
	at := len(b)
	b = appendArray(b, oidText, len(list))
	for _, s := range list {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return patchLength(b, at)
}

func appendInets(b []byte, list []netip.Addr) []byte {
	if len(list) == 0 {
		return AppendNull(b)
	}
	at := len(b)
	b = appendArray(b, oidInet, len(list))
	for _, a := range list {
		b = appendInet(b, a)
	}
	return patchLength(b, at)
}

// appendArray begins an array of one dimension without nulls. The length in
// front is still to be patched.
func appendArray(b []byte, element uint32, length int) []byte {
	b = append(b, 0, 0, 0, 0 /* length */, 0, 0, 0, 1 /* dimensions */, 0, 0, 0, 0 /* no nulls */)
	b = binary.BigEndian.AppendUint32(b, element)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return append(b, 0, 0, 0, 1) // the first index
}

// TupleFields appends the fields of a tuple to list; nil is null.
func TupleFields(list [][]byte, tuple []byte) [][]byte {
	n := int(binary.BigEndian.Uint16(tuple))
	tuple = tuple[2:]
	for range n {
		size := int32(binary.BigEndian.Uint32(tuple))
		tuple = tuple[4:]
		if size < 0 {
			list = append(list, nil)
			continue
		}
		list = append(list, tuple[:size:size])
		tuple = tuple[size:]
	}
	return list
}
