package proxy

import "github.com/sallyport/sallyport/policy"

// activation is one activation of a revision. The same revision is activated again
// when the rules of a rejected repository change.
type activation struct {
	digest string
	number uint64
}

func activationOf(d *policy.Decision) activation { return activation{d.Revision.Digest, d.Activation} }
