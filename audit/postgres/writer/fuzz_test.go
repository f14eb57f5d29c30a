package writer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
)

// FuzzEvent: no bytes in an event make the database refuse it, and what is
// stored in columns is what the record states.
func FuzzEvent(f *testing.F) {
	f.Add([]byte("api.partner.example"), []byte(`{"target":{"host":"a.example"}}`), int64(1790000000_000000), int64(5), uint8(0))
	f.Add([]byte("nul \x00, not UTF-8 \xff\xfe, a surrogate \xed\xa0\x80, \\u0000 \\ud800"), []byte(`{"a":"\u0000"}`), int64(-1), int64(-1), uint8(1))
	f.Add([]byte("\u202egpj.exe \u2028 \ufeff \u0085"), []byte(`{"a":"\ud800","b":[1e999999]}`), int64(1<<62), int64(1<<62), uint8(2))
	f.Add([]byte{}, []byte(`[[[[`), int64(0), int64(0), uint8(3))
	f.Add(make([]byte, 9000), make([]byte, 9000), int64(253402300800_000000), int64(1<<53), uint8(255))
	db := audittest.Migrated(f)
	l := logFor(f, db.URL(database.Writer), func(c *Config) { c.Log = nil })
	conn := audittest.Connect(f, db.URL(""))
	f.Fuzz(func(t *testing.T, text, input []byte, micros, number int64, mix uint8) {
		s := string(text)
		e := &audit.Event{
			Time: time.UnixMicro(micros).Add(123 * time.Nanosecond), Kind: []audit.Kind{audit.KindDecision, audit.KindTunnelClosed, audit.Kind(s), ""}[mix%4], DecisionID: s,
			Issuer: s, CredentialKind: s, WorkspaceUUID: s, RepositoryUUID: s, DeploymentUUID: s, PipelineUUID: s, StepUUID: audittest.NewUUID(time.Now()),
			Workspace: s, Repository: s, Project: s, Deployment: s, DeploymentType: s, Branch: s,
			ClientAddress: address(text).WithZone(s), Listener: s,
			Action: s, Scheme: s, Host: s, Port: uint16(number), Method: s, Path: s, TargetRaw: s,
			Verdict: s, Mode: s, WouldDeny: mix&4 != 0, Reason: s, Rule: s, Rules: []string{s, "", s}, Message: s, Revision: s, Commit: s, RepositoryRevision: s,
			Status: int(number), DialedAddress: address(input), Addresses: []netip.Addr{address(text), {}, address(input)},
			BytesSent: number, BytesReceived: -number, Duration: time.Duration(number), CloseReason: s, UpstreamStatus: int(micros),
			Attributes: []audit.Attribute{{Name: s, Value: s}, {Name: "input", Value: string(input)}},
			Input:      input,
		}
		ours := *e
		ours.Attributes = slices.Clone(e.Attributes)
		audittest.Record(t, l, e)
		// The event is not ours any more; its place in the log is known from its number.
		last := l.Stats().Recorded
		if d := audittest.QueryStrings(t, conn, audittest.ColumnDifferences+" WHERE e.writer = $1 AND e.writer_sequence = $2", l.Writer(), last); len(d) > 0 {
			t.Fatalf("%v", d)
		}
		ours.Normalise()
		ours.Writer, ours.WriterSequence = l.Writer(), int64(last)
		if got := audittest.SameRecords(t, conn, "WHERE e.writer = $1 AND e.writer_sequence = $2", l.Writer(), last); len(got) != 1 || !bytes.Equal(got[0], ours.AppendRecord(nil)) {
			t.Fatalf("the record is\n%s\nand not\n%s", got, ours.AppendRecord(nil))
		}
		if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.events WHERE writer = $1 AND writer_sequence = $2", l.Writer(), last); n != 1 {
			t.Fatalf("event %d is not there", last)
		}
		if o := l.outage.Load(); o != nil || l.Stats().Reconnects > 0 {
			t.Fatalf("the write failed: %v", fmt.Sprint(o))
		}
	})
}

// address makes an address of any family from bytes.
func address(b []byte) netip.Addr {
	switch {
	case len(b) >= 16:
		return netip.AddrFrom16([16]byte(b))
	case len(b) >= 4:
		return netip.AddrFrom4([4]byte(b))
	default:
		return netip.Addr{}
	}
}

// FuzzJournal: whatever is in a journal's file is read without a panic, and what
// comes out of it are events that were put in.
func FuzzJournal(f *testing.F) {
	e := audittest.Decision("deny", 1)
	e.Writer, e.WriterSequence = "w", 1
	e.Normalise()
	tuple := auditpg.AppendTuple(nil, e)
	whole := appendFrame(nil, []byte(`{"format":1,"writer":"w","columns":[]}`))
	f.Add(whole)
	f.Add(appendFrame(appendFrame(nil, (&journal{writer: "w"}).header()), tuple))
	f.Add(appendFrame(appendFrame(nil, (&journal{writer: "w"}).header()), tuple)[:200])
	f.Add(appendFrame(appendFrame(nil, (&journal{writer: "w"}).header()), binary.BigEndian.AppendUint16(nil, uint16(len(auditpg.Columns)))))
	f.Fuzz(func(t *testing.T, b []byte) {
		checkJournal(t, b)
		// What the checksum lets through is checked as well.
		checkJournal(t, appendFrame(appendFrame(nil, (&journal{writer: "w"}).header()), b))
	})
}
