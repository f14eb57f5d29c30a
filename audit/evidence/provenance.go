package evidence

import "github.com/sallyport/sallyport/audit"

// provenance gathers the events by which revisions began to decide.
type provenance struct{ by map[string][]Activation }

func (p *provenance) event(leaf int64, record []byte) {
	s, err := read(record)
	if err != nil || s.Kind != string(audit.KindPolicyLoaded) {
		return
	}
	if p.by == nil {
		p.by = map[string][]Activation{}
	}
	p.by[s.Revision] = append(p.by[s.Revision], Activation{
		Time: s.Time, Writer: s.Writer, Commit: s.Commit, Author: s.Attributes["author"], Subject: s.Attributes["subject"],
		Signer: s.Attributes["signer"], Signature: s.Attributes["signature"], Source: s.Attributes["source"], Leaf: leaf,
	})
}

// of returns the activations of the revision that decided, from the same source: not
// those of equal files from a directory or another commit. The activation that was in
// force comes first: the latest of the decision's writer that is not after it.
func (p *provenance) of(s *recordFields) []Activation {
	var own, others []Activation
	for _, a := range p.by[s.Revision] {
		switch {
		case a.Commit != s.Commit:
		case a.Writer == s.Writer && a.Time <= s.Time:
			own = append([]Activation{a}, own...)
		default:
			others = append(others, a)
		}
	}
	own = append(own, others...)
	return own[:min(len(own), maxActivations)]
}

// maxActivations bounds what a sample detail lists: the instance's own comes first.
const maxActivations = 50
