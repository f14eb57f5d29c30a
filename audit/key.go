package audit

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Attributes of an event that names a key.
const (
	attributeKey        = "key"
	attributePossession = "possession"
	attributePrevious   = "previous_key"
	attributeSignature  = "signature"
)

// A Key is the public half of a signing key, as text: ORIGIN+HASH+KEY, what
// golang.org/x/mod/sumdb/note calls a verifier key. The origin names the log.
type Key string

// Origin is the name of the log that the key belongs to.
func (k Key) Origin() string {
	origin, _, _ := strings.Cut(string(k), "+")
	return origin
}

// SignerName returns how a signed note names the key, as [SignerNames] does:
// ORIGIN+HASH+, with the hash in lower case. It is empty where the text is not a key.
func (k Key) SignerName() string {
	origin, rest, _ := strings.Cut(string(k), "+")
	hash, _, ok := strings.Cut(rest, "+")
	if !ok {
		return ""
	}
	return origin + "+" + strings.ToLower(hash) + "+"
}

// verifier is nil where the key is none.
func (k Key) verifier() note.Verifier {
	v, err := note.NewVerifier(string(k))
	if err != nil {
		return nil
	}
	return v
}

// Check returns an error if the text is not a key.
func (k Key) Check() error {
	if k.verifier() == nil {
		return errors.New("this is not a public key: want ORIGIN+HASH+KEY on one line")
	}
	return nil
}

// A Signer holds a private key. It prints as its public half, whatever formats
// it.
type Signer struct {
	key    Key
	signer note.Signer
}

// GenerateKey makes a private key for a log: one line of text that
// [ParseSigner] reads. An empty origin stands for a new log, whose name is made
// up.
func GenerateKey(origin string) (private string, err error) {
	if origin == "" {
		name := make([]byte, 16)
		_, _ = rand.Read(name) // never fails: crypto/rand ends the process instead
		origin = "sallyport/" + hex.EncodeToString(name)
	}
	private, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return "", fmt.Errorf("generate signing key: %w", err)
	}
	if err := Key(public).Check(); err != nil {
		return "", fmt.Errorf("generate signing key: %q does not do as the name of a log: no spaces, no +", origin)
	}
	return private, nil
}

// ParseSigner reads a private key. Its errors do not quote the text.
func ParseSigner(private string) (*Signer, error) {
	private = strings.TrimSpace(private)
	signer, err := note.NewSigner(private)
	if err != nil {
		return nil, errors.New("this is not a signing key: want PRIVATE+KEY+ORIGIN+HASH+KEY on one line, as `sallyport audit key generate` makes it")
	}
	_, encoded, _ := strings.Cut(strings.TrimPrefix(private, "PRIVATE+KEY+"), "+")
	_, encoded, _ = strings.Cut(encoded, "+")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(raw) != 1+ed25519.SeedSize { // NewSigner has read the same
		return nil, errors.New("this is not an Ed25519 signing key")
	}
	public := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	key, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return &Signer{Key(key), signer}, nil
}

// Key is the public half.
func (s *Signer) Key() Key { return s.key }

// String is the public half.
func (s *Signer) String() string { return string(s.key) }

// Format writes the public half for every verb and flag.
func (s *Signer) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.key)) }

// MarshalJSON is the public half.
func (s *Signer) MarshalJSON() ([]byte, error) { return json.Marshal(s.key) }

// A Registration is the content of an event that names a key.
type Registration struct {
	Key        Key
	Possession string // signature of Key over this registration, which proves that its holder agrees
	Previous   Key    // the key that hands over; empty where none does
	Signature  string // of the previous key
}

// handover is what the previous key signs.
func (r Registration) handover() string {
	return r.Previous.Origin() + "\nsallyport signing key\n" + string(r.Key) + "\n"
}

// possession is what the key that is named signs. It names the key before, so that
// it is valid only for this hand-over.
func (r Registration) possession() string {
	return r.Key.Origin() + "\nsallyport signing key possession\n" + string(r.Key) + "\nafter " + cmp.Or(string(r.Previous), "none") + "\n"
}

// Register returns the event that names a key as the log's first, or in place
// of one that is lost. The key signs it: no event can name another party's key.
func Register(s *Signer, now time.Time) *Event {
	r := Registration{Key: s.key}
	// A name that note.Sign refuses makes no Signer. Without a signature the
	// event is not accepted.
	r.Possession, _ = s.signature(r.possession())
	return r.event(now)
}

// HandOver returns the event by which a key names the one that follows it. Both
// are of the same log, and both sign.
func (s *Signer) HandOver(next *Signer, now time.Time) (*Event, error) {
	if next.key.Origin() != s.key.Origin() {
		return nil, fmt.Errorf("the next key is of the log %s, and the present one of %s", next.key.Origin(), s.key.Origin())
	}
	if next.key == s.key {
		return nil, errors.New("the next key is the present one")
	}
	r := Registration{Key: next.key, Previous: s.key}
	var err error
	if r.Signature, err = s.signature(r.handover()); err != nil {
		return nil, err
	}
	if r.Possession, err = next.signature(r.possession()); err != nil {
		return nil, err
	}
	return r.event(now), nil
}

// signature signs a text that is not a checkpoint, and returns what stands behind
// the name in the signature line of the signed note.
func (s *Signer) signature(text string) (string, error) {
	signed, err := note.Sign(&note.Note{Text: text}, s.signer)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	line := strings.TrimPrefix(string(signed), text+"\n"+signatureMark)
	_, signature, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	return signature, nil
}

// signed reports whether a key made a signature over a text.
func (k Key) signed(text, signature string) bool {
	v := k.verifier()
	if v == nil || signature == "" {
		return false
	}
	n, err := note.Open([]byte(text+"\n"+signatureMark+k.Origin()+" "+signature+"\n"), note.VerifierList(v))
	return err == nil && len(n.Sigs) == 1
}

func (r Registration) event(now time.Time) *Event {
	e := &Event{Time: now, Kind: KindSigningKey, Attributes: []Attribute{{attributeKey, string(r.Key)}, {attributePossession, r.Possession}}}
	if r.Previous != "" {
		e.Attributes = append(e.Attributes, Attribute{attributePrevious, string(r.Previous)}, Attribute{attributeSignature, r.Signature})
	}
	return e
}

// HandedOver reports whether the registration carries the signature of that key,
// and both are of one log.
func (r Registration) HandedOver(by Key) bool {
	return r.Previous == by && r.Key.Origin() == by.Origin() && by.signed(r.handover(), r.Signature)
}

// signatureMark begins a signature line (C2SP signed-note).
const signatureMark = "— "

// RegistrationOf reads the record of an event of the kind signing_key. It is
// false where that names no key, or one whose holder did not sign it.
func RegistrationOf(record []byte) (Registration, bool) {
	r, ok := ReadRegistration(record)
	return r, ok && r.Possessed()
}

// Possessed reports whether the holder of the key signed the registration.
func (r Registration) Possessed() bool { return r.Key.signed(r.possession(), r.Possession) }

// ReadRegistration reads the record of an event of the kind signing_key and verifies
// no signature, which takes ten times as long as reading. It is false where the
// record is not JSON or names no key.
func ReadRegistration(record []byte) (Registration, bool) {
	var fields struct {
		Attributes map[string]string `json:"attributes"`
	}
	if json.Unmarshal(record, &fields) != nil {
		return Registration{}, false
	}
	r := Registration{
		Key: Key(fields.Attributes[attributeKey]), Possession: fields.Attributes[attributePossession],
		Previous: Key(fields.Attributes[attributePrevious]), Signature: fields.Attributes[attributeSignature],
	}
	return r, r.Key != ""
}
