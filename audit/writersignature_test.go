package audit

import (
	"fmt"
	"slices"
	"testing"
)

// signedStart is the start of a writer whose process has a key.
func signedStart(t testing.TB, s *Signer, writer string) *Event {
	t.Helper()
	attributes, err := s.SignWriter(writer)
	if err != nil {
		t.Fatal(err)
	}
	return &Event{Kind: KindWriterStarted, Attributes: attributes}
}

// TestUnsignedWriters: a writer counts as one that has a key of the log only with the
// signature of that key over its own name, in its start or the event that names a key.
func TestUnsignedWriters(t *testing.T) {
	t.Parallel()
	l := newLog(t) // writer a: registers the key, and its start shows nothing
	stranger := newSigner(t, l.signer.Key().Origin())
	register := Register(l.signer, noon)
	attributes, err := l.signer.SignWriter("first")
	if err != nil {
		t.Fatal(err)
	}
	register.Attributes = append(register.Attributes, attributes...)
	l.add("first", register)
	l.add("server", signedStart(t, l.signer, "server"))
	l.add("copied", signedStart(t, l.signer, "server"))
	l.add("stranger", signedStart(t, stranger, "stranger"))
	l.add("stranger", decided(1))
	l.add("silent", decided(2))
	other := signedStart(t, l.signer, "another kind")
	other.Kind = KindAdmin
	l.add("another kind", other)
	l.add(DatabaseWriter, &Event{Kind: KindExport})
	l.seal(t)
	r := l.verify(t, Trust{Keys: []Key{l.signer.Key()}})
	want := []UnsignedWriter{{"stranger", 2, true}, {"another kind", 1, false}, {"copied", 1, true}, {"silent", 1, false}}
	got := slices.DeleteFunc(slices.Clone(r.Unsigned), func(w UnsignedWriter) bool { return w.Writer == "a" })
	if !slices.Equal(got, want) || r.SignedWriters != 2 || r.UnsignedWriters != 5 || !r.Sound() {
		t.Errorf("%d signed, %d not: %+v, %v", r.SignedWriters, r.UnsignedWriters, r.Unsigned, r.Findings)
	}
	// The control removed: a signature over another name would pass for the copy.
	copied := signedStart(t, l.signer, "server")
	values := map[string]string{}
	for _, a := range copied.Attributes {
		values[a.Name] = a.Value
	}
	if _, ok := WriterKey(KindWriterStarted, "copied", values); ok {
		t.Error("a start that was copied from another writer counts")
	}
	if _, ok := WriterKey(KindWriterStarted, "server", values); !ok {
		t.Error("the attack fails without the control as well")
	}
}

// TestUnsignedWritersAreBounded: of any number of unsigned writers a report lists those
// with the most events.
func TestUnsignedWritersAreBounded(t *testing.T) {
	t.Parallel()
	v, err := NewVerification(Trust{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 5 * maxUnsigned {
		w := v.writer(fmt.Sprintf("w%04d", n))
		w.sealed, w.events = 1, int64(n%7)
	}
	r := v.Report()
	if len(r.Unsigned) != maxUnsigned || r.UnsignedWriters != 5*maxUnsigned || r.Unsigned[0].Events != 6 || r.Unsigned[maxUnsigned-1].Events != 5 || r.Unsigned[0].Writer != "w0006" {
		t.Errorf("%d of %d, the first %+v, the last %+v", len(r.Unsigned), r.UnsignedWriters, r.Unsigned[0], r.Unsigned[len(r.Unsigned)-1])
	}
}
