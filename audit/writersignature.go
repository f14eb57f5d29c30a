package audit

import (
	"encoding/json"
	"slices"
)

// Attributes by which an event shows that the process that wrote it has a signing key.
const (
	attributeWriterKey       = "writer_key"
	attributeWriterSignature = "writer_signature"
)

// writerStatement is what a key signs for a writer. A login that may record can begin a
// writer of its own; the name contains the digest of a secret, so that no other login
// can write under it, and the signature shows that its process has the key.
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

// signedLog reports whether a key signed a checkpoint of the log that holds.
func (c *chain) signedLog(k Key) bool {
	return k != "" && slices.ContainsFunc(c.uses, func(u KeyUse) bool { return u.Key == k && u.First > 0 })
}
