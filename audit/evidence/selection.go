package evidence

import "time"

// Selection selects decisions.
type Selection struct {
	From, To     time.Time // From included, To not
	Size         int64     // only what has a leaf below
	Repositories []string  // full names or UUIDs; empty: all
}

// chosenBy reports whether a decision is one of those repositories.
func chosenBy(repositories []string, s *recordFields) bool {
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
