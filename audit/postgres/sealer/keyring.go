package sealer

import (
	"slices"

	"github.com/sallyport/sallyport/audit"
)

const (
	// maxRegistration bounds, in bytes, the record of an event that names a key:
	// those of the sealer take less than one kilobyte.
	maxRegistration = 16 << 10
	// registrationsPerStep bounds the events of kind signing_key that a step reads.
	registrationsPerStep = 5000
	// leavesPerStep bounds the leaves in which a step searches for such events.
	leavesPerStep = 20_000
)

// eventKey identifies an event.
type eventKey struct {
	writer   string
	sequence int64
}

// keyHandover is a sealed event in which a key hands over to another; both signed it.
type keyHandover struct{ from, to audit.Key }

// keyring holds the keys that matter to one sealer, of all that the log's events
// name. A login that may record adds any number of such events. Each step reads a
// bounded number of them, and the keyring keeps a key only if it is the sealer's own,
// if it is connected with the own key by hand-overs, or if it signed a checkpoint
// that no key of these signed. A hand-over needs the signatures of both keys, so that
// a stranger's events add nothing.
type keyring struct {
	own    audit.Key     // empty: the sealer has no key
	before []audit.Key   // the own key, and those that handed over to it, directly or not
	after  []audit.Key   // the own key, and those that it handed over to, directly or not
	passed []keyHandover // among these keys

	first   audit.Key // a key that an event of the log names; empty: none was found
	named   bool      // an event names the own key without a key before it
	waiting *eventKey // such an event that is not sealed; nil: none was found
	next    audit.Key // an event that is not sealed hands over from the own key to this one

	wanted  map[string]bool // names of signers, whose keys the log may name
	signers []audit.Key     // those that were found

	started  bool
	complete bool     // all events were read that name a key and were sealed when reading began
	again    bool     // a hand-over was found, which may connect events that were read before
	cursor   eventKey // the last event that was read
	leaves   int64    // leaves below are read once complete is true
}

// maxWantedKeys bounds the names of signers. A login that may seal can add checkpoints of
// any number of keys.
const maxWantedKeys = 1000

func newKeyring(own audit.Key) keyring {
	k := keyring{own: own, wanted: make(map[string]bool)}
	if own != "" {
		k.before, k.after = []audit.Key{own}, []audit.Key{own}
	}
	return k
}

// consider keeps what matters of an event that names a key. No signature of it was
// verified.
func (k *keyring) consider(r audit.Registration, sealed bool, at eventKey) {
	if k.first == "" && r.Possessed() {
		k.first = r.Key
	}
	if k.own != "" {
		k.considerOwn(r, sealed, at)
	}
	if k.wanted[r.Key.SignerName()] && !slices.Contains(k.signers, r.Key) && r.Possessed() {
		k.signers = append(k.signers, r.Key)
	}
}

// considerOwn notes what a registration means for the key of this instance.
func (k *keyring) considerOwn(r audit.Registration, sealed bool, at eventKey) {
	switch {
	case r.Key == k.own && r.Previous == "" && r.Possessed():
		k.named = true
		if !sealed && k.waiting == nil {
			k.waiting = &at
		}
	case r.Previous == "":
	case !sealed:
		if r.HandedOver(k.own) && r.Possessed() {
			k.next = r.Key
		}
	case slices.Contains(k.before, r.Key) || slices.Contains(k.after, r.Previous):
		k.connect(r)
	}
}

func (k *keyring) connect(r audit.Registration) {
	h := keyHandover{r.Previous, r.Key}
	if slices.Contains(k.passed, h) || !r.HandedOver(r.Previous) || !r.Possessed() {
		return
	}
	k.passed, k.again = append(k.passed, h), true
	if slices.Contains(k.before, h.to) && !slices.Contains(k.before, h.from) {
		k.before = append(k.before, h.from)
	}
	if slices.Contains(k.after, h.from) && !slices.Contains(k.after, h.to) {
		k.after = append(k.after, h.to)
	}
}

// keys are those whose checkpoints count for this instance: its own, and those that
// sealed events hand over to it or from it, directly or not. Where it has none, or
// its own replaces a lost one, any key counts that the log names. A login that may
// record names keys, but no event of its hands over from a key that it does not have.
func (k *keyring) keys() []audit.Key {
	keys := slices.Clone(k.before)
	if len(k.after) > 1 {
		keys = append(keys, k.after[1:]...)
	}
	if k.anyNamed() {
		keys = append(keys, k.signers...)
	}
	return keys
}

func (k *keyring) anyNamed() bool { return k.own == "" || k.waiting != nil }

// lacks reports whether the keys of some signers, where they count, were not searched
// for.
func (k *keyring) lacks(signers []string) bool {
	return k.anyNamed() && len(k.wanted) < maxWantedKeys && slices.ContainsFunc(signers, func(name string) bool { return !k.wanted[name] })
}

// search makes the next steps read all events again, for the keys of these signers.
func (k *keyring) search(signers []string) {
	for _, name := range signers {
		if len(k.wanted) < maxWantedKeys {
			k.wanted[name] = true
		}
	}
	k.complete, k.cursor = false, eventKey{}
}

// handedOver reports whether a sealed event hands over from a key to another; empty:
// to any.
func (k *keyring) handedOver(from, to audit.Key) bool {
	return slices.ContainsFunc(k.passed, func(h keyHandover) bool { return h.from == from && (to == "" || h.to == to) })
}

// mayFollow reports whether the own key signs the checkpoint that follows one that
// is signed by another; empty: there is none yet.
func (k *keyring) mayFollow(signedBy audit.Key) bool {
	switch signedBy {
	case "":
		return k.named
	case k.own:
		return !k.handedOver(k.own, "")
	}
	// The key that was is lost: its holder would have sealed the event that waits.
	return k.handedOver(signedBy, k.own) || k.waiting != nil
}

// present is the key that signs after another; empty: none has signed yet.
func (k *keyring) present(signedBy audit.Key) audit.Key {
	for _, h := range k.passed {
		if h.from == signedBy {
			return h.to
		}
	}
	if signedBy == "" {
		return k.first
	}
	return signedBy
}
