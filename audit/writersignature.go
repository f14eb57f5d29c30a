package audit

import (
	"cmp"
	"encoding/json"
	"slices"
)

// Attributes by which an event shows that the process that wrote it has a signing key.
const (
	attributeWriterKey       = "writer_key"
	attributeWriterSignature = "writer_signature"
)

// writerStatement is what a key signs for a writer. A login that may record can begin a
// writer of their own; the name contains the digest of a secret, so that nobody else
// writes under it, and the signature shows that its process has the key.
func writerStatement(k Key, writer string) string {
	return k.Origin() + "\nsallyport writer\n" + writer + "\n"
}

// SignWriter returns attributes for an event of a writer of this process, of kind
// writer_started or signing_key. A reader who knows the key sees by them that the
// writer is a process that has it. They are valid in events of that writer only.
func (s *Signer) SignWriter(writer string) ([]Attribute, error) {
	signature, err := s.signature(writerStatement(s.key, writer))
	if err != nil {
		return nil, err
	}
	return []Attribute{{attributeWriterKey, string(s.key)}, {attributeWriterSignature, signature}}, nil
}

// WriterKey returns the key that signed the name of the writer of an event, from the
// event's kind, writer and attributes. It is false where the event has no such
// signature. Whether the key is one of the log's is for the caller to compare.
func WriterKey(kind Kind, writer string, attributes map[string]string) (Key, bool) {
	if kind != KindWriterStarted && kind != KindSigningKey {
		return "", false
	}
	k := Key(attributes[attributeWriterKey])
	return k, k != "" && k.signed(writerStatement(k, writer), attributes[attributeWriterSignature])
}

// writerKeyOf reads the record of an event of that kind.
func writerKeyOf(kind Kind, record []byte) (Key, bool) {
	var fields struct {
		Writer     string            `json:"writer"`
		Attributes map[string]string `json:"attributes"`
	}
	if json.Unmarshal(record, &fields) != nil {
		return "", false
	}
	return WriterKey(kind, fields.Writer, fields.Attributes)
}

// An UnsignedWriter is a writer with sealed events of which none shows that its process
// has a key of the log: an instance without the key, or any login that may record. Its
// events are what it reports, and nothing else vouches for them.
type UnsignedWriter struct {
	Writer  string
	Events  int64 // that are sealed
	Started bool  // it recorded its start
}

// maxUnsigned bounds the unsigned writers that a report lists. A login that may record
// makes any number of them.
const maxUnsigned = 100

// finishWriters counts the writers, and lists those without a signature: the ones with
// the most events.
func (v *Verification) finishWriters(r *Report) {
	for _, w := range v.writers {
		if w.sealed == 0 {
			continue
		}
		r.Writers++
		if w.name == DatabaseWriter {
			continue
		}
		if !w.ended {
			r.Unended++
		}
		if v.keys.signedLog(w.signedBy) {
			r.SignedWriters++
			continue
		}
		r.UnsignedWriters++
		one := UnsignedWriter{Writer: w.name, Events: w.events, Started: w.started}
		i, _ := slices.BinarySearchFunc(r.Unsigned, one, compareUnsigned)
		if i < maxUnsigned {
			r.Unsigned = slices.Insert(r.Unsigned, i, one)
			r.Unsigned = r.Unsigned[:min(len(r.Unsigned), maxUnsigned)]
		}
	}
}

// compareUnsigned puts the writer with more events first.
func compareUnsigned(a, b UnsignedWriter) int {
	return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Writer, b.Writer))
}

// signedLog reports whether a key signed a checkpoint of the log that holds.
func (c *chain) signedLog(k Key) bool {
	return k != "" && slices.ContainsFunc(c.uses, func(u KeyUse) bool { return u.Key == k && u.First > 0 })
}
