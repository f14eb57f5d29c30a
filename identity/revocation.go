package identity

import (
	"fmt"
	"strings"
	"time"
)

// RevocationScope is the kind of subject whose credentials a revocation refuses.
type RevocationScope string

// The scopes. No scope covers every credential: the emergency stop does.
const (
	ScopeStep       RevocationScope = "step"       // one step
	ScopeRepository RevocationScope = "repository" // every step of a repository
)

// Revocation refuses the credentials of a step, or of every step of a repository, until a
// time.
type Revocation struct {
	ID         int64
	Scope      RevocationScope
	UUID       string    // of the step or the repository, bare and lower-case
	RevokedAt  time.Time // by the database's clock
	Until      time.Time
	By, Reason string
}

// Covers reports whether the revocation refuses the credentials of a principal.
func (r *Revocation) Covers(p *Principal) bool {
	switch {
	case p == nil:
		return false
	case r.Scope == ScopeStep:
		return p.Step.UUID == r.UUID
	}
	return p.Repository.UUID == r.UUID
}

// UnconfirmedError is the error of a revocation that is durable and in force on this
// instance, and that other connected instances have not confirmed.
type UnconfirmedError struct {
	Instances []string      // a description of each
	Waited    time.Duration // for their confirmations
}

func (e *UnconfirmedError) Error() string {
	return fmt.Sprintf("it is written and in force on this instance, and not confirmed within %s by %d of the others: %s: end them, or see their logs; run the command again for a confirmation",
		e.Waited, len(e.Instances), strings.Join(e.Instances, "; "))
}
