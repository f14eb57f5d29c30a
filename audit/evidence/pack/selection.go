package pack

import (
	"time"

	"github.com/sallyport/sallyport/audit/recorded"
)

// Selection selects decisions.
type Selection struct {
	From, To     time.Time // From included, To not
	Size         int64     // only what has a leaf below
	Repositories []string  // full names or UUIDs; empty: all
}

// IsSelected reports whether a decision is one of those repositories.
func IsSelected(repositories []string, s *recorded.Event) bool {
	if len(repositories) == 0 {
		return true
	}
	for _, r := range repositories {
		if r == s.Repository || r == s.RepositoryUUID {
			return r != ""
		}
	}
	return false
}
