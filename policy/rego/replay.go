package rego

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/functions"
	"github.com/sallyport/sallyport/webhook"
)

// maxDecisions bounds the decisions that a [Replayer] remembers, of some hundred bytes each.
const maxDecisions = 1 << 16

// Replayer evaluates many recorded inputs. Inputs that differ only in parts that the
// policy does not read (the step, the client, the time) are evaluated once. Safe for
// concurrent use.
type Replayer struct {
	set       *Set
	decisions *lru[string, *cachedDecision]
	reads     *lru[string, *lazyReads] // by repository
	evaluated atomic.Int64
}

// lazyReads are the volatile parts that the policy of a repository may read.
type lazyReads struct {
	once  sync.Once
	parts []string
}

// cachedDecision is the decision for a key, for inputs whose time is in its span.
type cachedDecision struct {
	once     sync.Once
	decision policy.Decision
	err      error
	span     functions.Span
}

// volatile are the parts of the input that differ from one request of a step to
// the next, or from one step to the next.
var volatile = []string{"principal.pipeline", "principal.step", "principal.branch", "request", "client", "time"}

// NewReplayer makes a replayer for a set.
func NewReplayer(set *Set) *Replayer {
	return &Replayer{set: set, decisions: newLRU[string, *cachedDecision](maxDecisions), reads: newLRU[string, *lazyReads](maxPrincipals)}
}

// Evaluated is the number of inputs that were evaluated.
func (r *Replayer) Evaluated() int64 { return r.evaluated.Load() }

// Replay returns the decision of [Set.Replay]. Its Input is the input itself, and its
// Duration that of the evaluation, perhaps of another input.
func (r *Replayer) Replay(ctx context.Context, input []byte) (policy.Decision, error) {
	key, ok := r.key(input)
	if !ok {
		d, _, err := r.evaluate(ctx, input)
		return d, err
	}
	known := r.decisions.get(key, func() *cachedDecision { return new(cachedDecision) })
	own := false
	known.once.Do(func() {
		own = true
		known.decision, known.span, known.err = r.evaluate(ctx, input)
		known.decision.Input = nil // it would keep the whole input in memory
	})
	if at := timeOfText(input); !own && (at.IsZero() || !known.span.Has(at)) {
		d, _, err := r.evaluate(ctx, input)
		return d, err
	}
	d := known.decision
	d.Input = input
	return d, known.err
}

func (r *Replayer) evaluate(ctx context.Context, input []byte) (d policy.Decision, span functions.Span, err error) {
	r.evaluated.Add(1)
	start := time.Now()
	span = functions.Never
	in, err := recordedInput(input, r.set.loader.options.Names)
	if err == nil {
		err = in.checkNotDelivery()
	}
	if err != nil {
		d = denied(nil)
	} else if d, err = r.set.evaluate(ctx, in); err == nil {
		span = in.span
	}
	d.Revision, d.Duration = r.set.Revision(), time.Since(start)
	return d, span, err
}

// timeOfText is the time of a recorded input; zero if there is none.
func timeOfText(input []byte) (at time.Time) {
	_ = members(input, func(name string, value []byte) {
		if name == "time" {
			at, _ = time.Parse(time.RFC3339, strings.Trim(string(value), `"`))
		}
	})
	return at
}

// ReplayDelivery returns the decision of [Set.ReplayDelivery]. Deliveries differ in their
// refs, so each is evaluated.
func (r *Replayer) ReplayDelivery(ctx context.Context, input []byte) (webhook.Decision, error) {
	r.evaluated.Add(1)
	return r.set.ReplayDelivery(ctx, input)
}

// key is the input without the volatile parts that no policy evaluated for it reads. ok
// is false where the input does not have the form in which inputs are recorded.
func (r *Replayer) key(input []byte) (key string, ok bool) {
	name, ok := repositoryOf(input, r.set.loader.options.Names)
	if !ok {
		return "", false
	}
	lazy := r.reads.get(name, func() *lazyReads { return new(lazyReads) })
	lazy.once.Do(func() {
		organization, own := r.set.readsFor(name)
		for _, part := range volatile {
			if path := splitPath(part); organization.Input.Has(path...) || own.Input.Has(path...) {
				lazy.parts = append(lazy.parts, part)
			}
		}
	})
	reads := lazy.parts
	dropped := func(path string) bool { return slices.Contains(volatile, path) && !slices.Contains(reads, path) }
	b := make([]byte, 0, len(input))
	_ = members(input, func(field string, value []byte) {
		switch {
		case field == "principal":
			_ = members(value, func(field string, value []byte) {
				if !dropped("principal." + field) {
					b = append(append(append(b, field...), '='), value...)
				}
			})
		case !dropped(field):
			b = append(append(append(b, field...), ':'), value...)
		}
	})
	return string(b), true
}

// repositoryOf returns the name under which the repository of an input has a policy of
// its own: its full name, or its UUIDs where names are not known.
func repositoryOf(input []byte, names bool) (name string, ok bool) {
	var principal []byte
	ok = members(input, func(name string, value []byte) {
		if name == "principal" {
			principal = value
		}
	})
	var fullName []byte
	var workspaceUUID, repositoryUUID string
	ok = ok && members(principal, func(name string, value []byte) {
		_ = members(value, func(field string, text []byte) {
			switch {
			case name == "workspace" && field == "uuid":
				workspaceUUID = string(text)
			case name == "repository" && field == "uuid":
				repositoryUUID = string(text)
			case name == "repository" && field == "full_name":
				fullName = text
			}
		})
	})
	if !ok || bytes.IndexByte(fullName, '\\') >= 0 {
		return "", false
	}
	if !names {
		return strings.Trim(workspaceUUID, `"`) + "/" + strings.Trim(repositoryUUID, `"`), true
	}
	return strings.Trim(string(fullName), `"`), true
}

// members calls f for each member of a JSON object in the form of recorded inputs: without
// white space, and with names without escapes. It reports whether it read the whole
// object.
func members(object []byte, f func(name string, value []byte)) bool {
	if len(object) < 2 || object[0] != '{' || object[len(object)-1] != '}' {
		return false
	}
	rest := object[1 : len(object)-1]
	for len(rest) > 0 {
		if rest[0] != '"' {
			return false
		}
		end := bytes.IndexByte(rest[1:], '"')
		if end < 0 || len(rest) < end+4 || rest[end+2] != ':' {
			return false
		}
		name, value := string(rest[1:end+1]), rest[end+3:]
		n := valueLength(value)
		if n <= 0 {
			return false
		}
		f(name, value[:n])
		if rest = value[n:]; len(rest) > 0 {
			if rest[0] != ',' || len(rest) == 1 {
				return false
			}
			rest = rest[1:]
		}
	}
	return true
}

// valueLength is the length of the JSON value that b begins with; 0 where it has
// no end.
func valueLength(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			n := stringLength(b[i:])
			if n == 0 {
				return 0
			}
			i += n - 1
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return i
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	if depth != 0 {
		return 0
	}
	return len(b)
}

// stringLength is the length of the JSON string that b begins with, with both quotes; 0
// where it has no end.
func stringLength(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}
