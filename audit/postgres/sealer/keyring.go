package sealer

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

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

const isRegistration = `kind = '` + string(audit.KindSigningKey) + `'`

// registrationOrNull is the record of a row v, or NULL where that is too long.
const registrationOrNull = `CASE WHEN octet_length(v.record) <= $4 OR octet_length(v.record_rest) <= $4 THEN audit.record(v) END`

const (
	// pageSQL reads the next events that name a key in the order of an index, which
	// has no other events.
	pageSQL = `SELECT e.writer, e.writer_sequence, e.record, l.sealed IS NOT NULL FROM (
			SELECT v.writer, v.writer_sequence, ` + registrationOrNull + ` AS record FROM audit.events v
			WHERE v.` + isRegistration + ` AND (v.writer, v.writer_sequence) > ($1 COLLATE "C", $2::bigint)
			ORDER BY v.writer, v.writer_sequence LIMIT $3
		) e LEFT JOIN LATERAL (
			SELECT true AS sealed FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence LIMIT 1
		) l ON true ORDER BY e.writer, e.writer_sequence`
	// sealedSinceSQL reads those of some leaves.
	sealedSinceSQL = `SELECT e.record FROM (
			SELECT writer, min(writer_sequence) AS first, max(writer_sequence) AS last FROM audit.leaves WHERE index >= $1 AND index < $2 GROUP BY writer
		) r CROSS JOIN LATERAL (
			SELECT ` + registrationOrNull + ` AS record FROM audit.events v
			WHERE v.` + isRegistration + ` AND v.writer = r.writer AND v.writer_sequence BETWEEN r.first AND r.last LIMIT $3
		) e`
)

// eventKey identifies an event.
type eventKey struct {
	writer   string
	sequence int64
}

// handOver is a sealed event in which a key hands over to another; both signed it.
type handOver struct{ from, to audit.Key }

// keyring holds the keys that matter to one sealer, of all that the log's events
// name. A login that may record adds any number of such events. Each step reads a
// bounded number of them, and the keyring keeps a key only if it is the sealer's own,
// if it is connected with the own key by hand-overs, or if it signed a checkpoint
// that no key of these signed. A hand-over needs the signatures of both keys, so that
// a stranger's events add nothing.
type keyring struct {
	own    audit.Key   // empty: the sealer has no key
	before []audit.Key // the own key, and those that handed over to it, directly or not
	after  []audit.Key // the own key, and those that it handed over to, directly or not
	passed []handOver  // among these keys

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

// maxWanted bounds the names of signers. A login that may seal can add checkpoints of
// any number of keys.
const maxWanted = 1000

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
	switch {
	case k.own == "":
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
	if k.wanted[r.Key.SignerName()] && !slices.Contains(k.signers, r.Key) && r.Possessed() {
		k.signers = append(k.signers, r.Key)
	}
}

func (k *keyring) connect(r audit.Registration) {
	h := handOver{r.Previous, r.Key}
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
	return k.anyNamed() && len(k.wanted) < maxWanted && slices.ContainsFunc(signers, func(name string) bool { return !k.wanted[name] })
}

// search makes the next steps read all events again, for the keys of these signers.
func (k *keyring) search(signers []string) {
	for _, name := range signers {
		if len(k.wanted) < maxWanted {
			k.wanted[name] = true
		}
	}
	k.complete, k.cursor = false, eventKey{}
}

// handedOver reports whether a sealed event hands over from a key to another; empty:
// to any.
func (k *keyring) handedOver(from, to audit.Key) bool {
	return slices.ContainsFunc(k.passed, func(h handOver) bool { return h.from == from && (to == "" || h.to == to) })
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

// readKeys brings the keyring up to a number of leaves, with bounded work. It is
// false where that takes another step.
func (s *Sealer) readKeys(ctx context.Context, tx pgx.Tx, leaves int64) (complete bool, err error) {
	own := audit.Key("")
	if s.config.Signer != nil {
		own = s.config.Signer.Key()
	}
	k := &s.keys
	if !k.started || k.own != own || leaves < k.leaves {
		*k = newKeyring(own)
		k.started, k.leaves = true, leaves
	}
	if !k.complete {
		end, err := s.readRegistrations(ctx, tx)
		if err != nil {
			return false, err
		}
		k.complete, k.again = end && !k.again, k.again && !end
		return k.complete && k.leaves == leaves, nil
	}
	if k.leaves < leaves {
		return s.readSealedSince(ctx, tx, leaves)
	}
	return true, nil
}

// readPage reads the next events that name a key, sealed or not. At their end it is
// true, and the next page is the first. PostgreSQL estimates that few events name a
// key, so that sorting all of them seems cheap: that is off.
func (s *Sealer) readPage(ctx context.Context, tx pgx.Tx) (end bool, err error) {
	k := &s.keys
	read := 0
	var at eventKey
	var record []byte
	var sealed bool
	err = withoutSort(ctx, tx, func() error {
		rows, err := tx.Query(ctx, pageSQL, k.cursor.writer, k.cursor.sequence, registrationsPerStep, maxRegistration)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&at.writer, &at.sequence, &record, &sealed}, func() error {
			read++
			if r, ok := audit.ReadRegistration(record); ok {
				k.consider(r, sealed, at)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read signing keys: %w", err)
	}
	k.cursor = at
	if end = read < registrationsPerStep; end {
		k.cursor = eventKey{}
	}
	return end, nil
}

// withoutSort runs a query whose rows an index gives in their order.
func withoutSort(ctx context.Context, tx pgx.Tx, query func() error) error {
	if _, err := tx.Exec(ctx, "SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"); err != nil {
		return err
	}
	if err := query(); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "SET LOCAL enable_sort = on; SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on")
	return err
}

// readSealedSince reads the events that were sealed since the keyring was complete.
func (s *Sealer) readSealedSince(ctx context.Context, tx pgx.Tx, leaves int64) (complete bool, err error) {
	var end int64 // the index of a leaf that a login added can be anything
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(index) + 1, $2) FROM (
		SELECT index FROM audit.leaves WHERE index >= $1 AND index < $2 ORDER BY index LIMIT $3) l`, s.keys.leaves, leaves, leavesPerStep).Scan(&end); err != nil {
		return false, fmt.Errorf("read signing keys: %w", err)
	}
	var record []byte
	err = withoutSort(ctx, tx, func() error {
		rows, err := tx.Query(ctx, sealedSinceSQL, s.keys.leaves, end, leavesPerStep, maxRegistration)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&record}, func() error {
			if r, ok := audit.ReadRegistration(record); ok {
				s.keys.consider(r, true, eventKey{})
			}
			return nil
		})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read signing keys: %w", err)
	}
	s.keys.leaves, s.keys.again = end, false // a hand-over follows those of the key that signs it
	return end == leaves, nil
}

// findReplacement searches for an event that names the own key in place of the one
// that signed the latest checkpoint: a page of events at each step, around and around.
// It is true where the keys that signed have to be read first.
func (s *Sealer) findReplacement(ctx context.Context, tx pgx.Tx, last latest) (again bool, err error) {
	k := &s.keys
	if k.own != "" && last.refused == nil && last.signedBy != "" && k.mayFollow(last.signedBy) {
		return false, nil
	}
	if k.waiting == nil {
		if _, err := s.readRegistrations(ctx, tx); err != nil {
			return false, err
		}
		again = k.waiting != nil // other keys count now
	}
	if k.lacks(last.unknown) {
		k.search(last.unknown)
		again = true
	}
	return again, nil
}

// checkWaiting forgets the event that waits once it is sealed.
func (s *Sealer) checkWaiting(ctx context.Context, tx pgx.Tx) error {
	w := s.keys.waiting
	if w == nil {
		return nil
	}
	var sealed bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM audit.leaves WHERE writer = $1 AND writer_sequence = $2)`, w.writer, w.sequence).Scan(&sealed); err != nil {
		return fmt.Errorf("read signing keys: %w", err)
	}
	if sealed {
		s.keys.waiting = nil
	}
	return nil
}

// latestAndKeys returns the newest checkpoint, with the keys that matter for it. It is
// false where that takes another step.
func (s *Sealer) latestAndKeys(ctx context.Context, tx pgx.Tx) (last latest, complete bool, err error) {
	var leaves int64
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(index), -1) + 1 FROM audit.leaves`).Scan(&leaves); err != nil {
		return last, false, fmt.Errorf("count the leaves: %w", err)
	}
	if complete, err = s.readKeys(ctx, tx, leaves); err != nil || !complete {
		return last, false, err
	}
	if err := s.checkWaiting(ctx, tx); err != nil {
		return last, false, err
	}
	if last, err = s.readLatest(ctx, tx, leaves); err != nil {
		return last, false, err
	}
	again, err := s.findReplacement(ctx, tx, last)
	return last, !again, err
}
