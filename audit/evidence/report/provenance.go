package report

import (
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

// Provenance gathers the events by which revisions began to decide.
type Provenance struct{ by map[string][]pack.Activation }

func (p *Provenance) Add(leaf int64, record []byte) {
	s, err := recorded.Read(record)
	if err != nil || s.Kind != string(audit.KindPolicyLoaded) {
		return
	}
	if p.by == nil {
		p.by = map[string][]pack.Activation{}
	}
	p.by[s.Revision] = append(p.by[s.Revision], pack.Activation{
		Time: s.Time, Writer: s.Writer, Commit: s.Commit, Author: s.Attributes["author"], Subject: s.Attributes["subject"],
		Signer: s.Attributes["signer"], Signature: s.Attributes["signature"], Source: s.Attributes["source"], Leaf: leaf,
	})
}

// Of returns the activations of the revision that decided, from the same source: not
// those of equal files from a directory or another commit. The activation that was in
// force comes first: the latest of the decision's writer that is not after it.
func (p *Provenance) Of(s *recorded.Event) []pack.Activation {
	var own, others []pack.Activation
	for _, a := range p.by[s.Revision] {
		switch {
		case a.Commit != s.Commit:
		case a.Writer == s.Writer && a.Time <= s.Time:
			own = append([]pack.Activation{a}, own...)
		default:
			others = append(others, a)
		}
	}
	own = append(own, others...)
	return own[:min(len(own), maxActivations)]
}

// maxActivations bounds what a sample detail lists: the instance's own comes first.
const maxActivations = 50
