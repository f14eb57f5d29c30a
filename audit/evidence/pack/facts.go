package pack

import (
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Facts describe the log beside its events. They can be established only by reading the
// whole log up to the checkpoint.
type Facts struct {
	Period       Period   `json:"period"`
	Repositories []string `json:"repositories"` // that the population is narrowed to; none: all
	Log          string   `json:"log"`          // its name, as its checkpoints have it
	Checkpoint   string   `json:"checkpoint"`   // of the pack: the signed note
	Given        bool     `json:"checkpoint_given"`

	Result Result `json:"verification"`

	// Kinds counts the events of the period, whatever the repository, as the walk
	// through the tree found them.
	Kinds map[string]int64 `json:"events_of_the_period"`
	// Selected counts the decisions among them that the repositories leave, and
	// Digest is the exclusive or of their leaf hashes, in base64: the population,
	// which was asked for in another way, has to have the same.
	Selected int64  `json:"decisions_selected"`
	Digest   string `json:"decisions_digest"`

	// Removed are the months of the period, as YYYY-MM, whose decisions retention has
	// removed: the population does not have them.
	Removed []string `json:"months_removed_by_retention"`

	// Gaps are the missing numbers that may be events of the period: of writers, sealed
	// or not. Unsealed counts the events of the period without a leaf, which are
	// therefore not in the pack: they are behind a gap, or under a number that was given
	// to another event. Both are as they were found when the pack was made, and empty
	// as a rule.
	// MoreGaps counts those that are not listed, because there are too many.
	Gaps     []Gap `json:"gaps"`
	MoreGaps int64 `json:"gaps_not_listed,omitempty"`
	Unsealed int64 `json:"events_not_sealed"`
	Late     Late  `json:"late"`

	// Silences are the times of the period in which no checkpoint was signed for long.
	Silences []audit.Silence `json:"silences,omitempty"`

	Unreadable int64       `json:"records_unreadable"`
	Writers    []Writer    `json:"writers"`
	Exceptions []Exception `json:"exceptions"`
}

// Result is what a verification of the log up to the checkpoint found.
type Result struct {
	Sound    bool                   `json:"sound"`
	Leaves   int64                  `json:"leaves"`
	Hours    int64                  `json:"clock_hours_with_a_checkpoint"` // old checkpoints thin out within them
	Writers  int                    `json:"writers"`
	Unended  int                    `json:"writers_without_end"`
	First    time.Time              `json:"first_event"`
	Last     time.Time              `json:"last_event"`
	Keys     []audit.Key            `json:"keys"`
	Trusted  []audit.Key            `json:"keys_from_outside"`
	Vouched  bool                   `json:"key_from_outside_holds"`
	Vouching []Vouching             `json:"keys_that_vouch"`
	Anchored *Anchor                `json:"anchored"` // null: no checkpoint from outside holds
	Counts   map[audit.Damage]int64 `json:"damage"`
	Findings []string               `json:"findings"` // the first hundred
}

// Vouching is a key from outside, or one that such a key handed over to, and the
// size of the first checkpoint that it signed and that holds.
type Vouching struct {
	Key  audit.Key `json:"key"`
	From int64     `json:"from_size"`
}

// Anchor is a checkpoint from outside that holds.
type Anchor struct {
	Size int64      `json:"size"`
	Root audit.Hash `json:"root"`
	Time time.Time  `json:"time"`
}

// Writer is one process that wrote to the log, as far as it is sealed.
type Writer struct {
	Name     string `json:"writer"`
	Version  string `json:"version,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	Started  string `json:"started,omitempty"` // its first event is its start
	First    string `json:"first_event"`
	Last     string `json:"last_event"`
	Ended    string `json:"ended,omitempty"`
	Lost     string `json:"reported_lost,omitempty"` // when another writer reported it as lost
	Events   int64  `json:"events"`
	Number   int64  `json:"last_number"`
	Gaps     int64  `json:"numbers_missing"` // up to the last number
}
