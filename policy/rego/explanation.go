package rego

import (
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Explanation is a decision with the outcome of each rule.
type Explanation struct {
	Decision policy.Decision
	Rules    []Explained // by set, then as they stand in the files
}

// Explained is the outcome of one body of one rule of a set.
type Explained struct {
	Set        string // allow, deny, report, delegate, route
	Rule       string // its id
	Repository string // whose it is; empty: the organization's
	File       string
	Line       int
	Matched    bool
	Ignored    string // why it matched and does not count; empty where it does
	// Failed is the first condition that did not hold; of a body that was tried for
	// several values, for the one that came furthest. nil where it matched.
	Failed *Condition
}

// Condition is one expression of a rule's body, as it is written.
type Condition struct {
	File string
	Line int
	Text string
	Read []Value // what it read of the input
}

// Value is a part of the input.
type Value struct {
	Path   string // input.target.host
	Value  string // as JSON; empty where Absent
	Absent bool
}

// explainDeadline bounds an evaluation that is traced. Tracing takes many times as long as
// deciding.
const explainDeadline = 30 * time.Second
