package writer

import (
	"errors"
	"fmt"
	"sync"

	"github.com/sallyport/sallyport/audit"
)

// What one repository may hold of a capacity that all share. Three quarters of it
// are shared by what is left of them: a repository may hold a quarter of what is
// free, so that one alone holds at most about a seventh of the capacity, and a second
// finds nearly as much (dynamic thresholds: Choudhury and Hahne, "Dynamic queue
// length thresholds for shared-memory packet switches", 1998). Out of the last
// quarter each repository may complete a guaranteed minimum, whatever others hold.
// A step has half of its repository's part. A last bit is for events that have no
// share: ends, and the server's own.
const (
	repositoryPart = 4   // of what is free
	guaranteedPart = 256 // of the whole capacity
	unsharedPart   = 32  // of the whole capacity
)

// share reports whose share of a capacity is exceeded by size more: "" where neither is.
// used, ofRepository and ofStep are what is held now. A holder of nothing may add one
// entry of any size that the capacity admits.
func share(capacity, used, ofRepository, ofStep, size int64) string {
	if capacity -= capacity / unsharedPart; used+size > capacity && used > 0 {
		return "the part for all repositories"
	}
	guaranteed := capacity / guaranteedPart
	ofFree := max(capacity*3/4-used, 0) / repositoryPart
	switch {
	case ofStep > 0 && ofStep+size > max(ofFree, guaranteed)/2:
		return "the step's share"
	case ofRepository > 0 && ofRepository+size > max(ofFree, guaranteed):
		return "the repository's share"
	}
	return ""
}

// ErrShare is returned, wrapped together with [ErrUnavailable], where the step or
// its repository has used its share of the queue or of the journal. Others are
// recorded meanwhile.
var ErrShare = errors.New("the share of the step's repository is used up")

// shareError is why an event of one repository is not recorded.
type shareError struct{ full string }

func (e shareError) Error() string {
	return fmt.Sprintf("record: %s is used up: events of other repositories are recorded meanwhile", e.full)
}

// Unwrap makes it an ErrUnavailable and an ErrShare.
func (e shareError) Unwrap() []error { return []error{ErrUnavailable, ErrShare} }

// ClientText is what the step may see.
func (e shareError) ClientText() string {
	return "the audit log cannot record more of this repository at the moment: " + e.full + " is used up"
}

// journalUse is how much of the journal each repository and step has used. It is
// safe for concurrent use.
type journalUse struct {
	mu           sync.Mutex
	repositories map[string]int64
	steps        map[audit.Source]int64
}

// add counts a group that was written to the journal.
func (u *journalUse) add(g *group) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.steps == nil {
		u.repositories, u.steps = make(map[string]int64), make(map[audit.Source]int64)
	}
	for _, r := range g.rows {
		if r.source != (audit.Source{}) {
			size := int64(r.end-r.start) + frameHead
			u.repositories[r.source.Repository] += size
			u.steps[r.source] += size
		}
	}
}

// reset forgets all: the journal is empty.
func (u *journalUse) reset() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.repositories, u.steps = nil, nil
}

func (u *journalUse) of(source audit.Source) (repository, step int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.repositories[source.Repository], u.steps[source]
}
