package bitbucket

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// Verdict is what an inspection came to.
type Verdict string

// The verdicts.
const (
	Accepted  Verdict = "accepted"
	Refused   Verdict = "refused"
	Undecided Verdict = "undecided"  // nothing is wrong, but not everything could be judged
	NotJudged Verdict = "not_judged" // there was no configuration; nothing is wrong with the token by itself
)

// Result is what one check came to.
type Result string

// The results.
const (
	Passed     Result = "passed"
	Failed     Result = "failed"
	Unknown    Result = "unknown"     // what it needs is not at hand
	NotReached Result = "not_reached" // what failed before leaves nothing to judge
)

// Inspection is the content of a token, whether it would be accepted, and why not.
// It holds neither the token's signature nor the token, and its texts are fit to
// be shown on a terminal.
type Inspection struct {
	Verdict Verdict          `json:"verdict"`
	Problem identity.Problem `json:"problem,omitempty"` // the proxy's answer, where it is a refusal
	Content *Content         `json:"token,omitempty"`   // nil where nothing can be read
	Checks  []Checked        `json:"checks"`            // in the order in which the proxy looks
	Keys    *Keys            `json:"keys,omitempty"`    // with which the signature was judged
	Notes   []string         `json:"notes,omitempty"`
}

// Checked is one check of an inspection.
type Checked struct {
	Check  string `json:"check"` // the word that the hook Refused gives
	About  string `json:"about"` // what is checked
	Result Result `json:"result"`
	Detail string `json:"detail,omitempty"` // what is wrong and what to do; empty where it passed
}

// Keys are the issuer's keys that an inspection had.
type Keys struct {
	Issuer  string    `json:"issuer"`
	Count   int       `json:"count"`
	Fetched time.Time `json:"fetched"`
	Online  bool      `json:"online"` // for this inspection, and not by a server before
}

// Inspector judges tokens as an [Authenticator] of the same configuration would,
// by the same code, and admits no step. It writes nothing, and sends no request
// unless online is set; a token itself is never sent anywhere. It is not safe
// for concurrent use.
type Inspector struct {
	a      *Authenticator
	unread map[string]error // by issuer: why kept keys could not be read
}

// NewInspector returns an inspector that has read the keys that a server keeps in
// Config.StateDirectory, as far as it may read them. Names, hooks and stores are
// not used.
func NewInspector(c Config, deps Deps) (*Inspector, error) {
	directory := c.StateDirectory
	c.StateDirectory = "" // or it would be made, and written to
	c.Workspaces = append([]Workspace(nil), c.Workspaces...)
	for i := range c.Workspaces {
		c.Workspaces[i].API = nil
	}
	a, err := New(c, Deps{Now: deps.Now, Log: deps.Log, Transport: deps.Transport, Admitted: noStore{}})
	if err != nil {
		return nil, err
	}
	n := &Inspector{a: a, unread: map[string]error{}}
	for _, i := range a.list {
		if directory == "" {
			break
		}
		file := &keyFile{path: keyFilePath(directory, i.url), log: a.log}
		st, err := file.read(i.url, a.now())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			n.unread[i.url] = err
		}
		if st != nil {
			i.keys.state.Store(st)
		}
	}
	return n, nil
}

// Close gives connections back.
func (n *Inspector) Close() { n.a.Close() }

// noStore stands where an inspector has no store to ask.
type noStore struct{}

func (noStore) Admit(*identity.Principal) {}

func (noStore) Admitted(context.Context, [32]byte, string) (*identity.Principal, bool, error) {
	return nil, false, errors.New("bitbucket: an inspection asks no store")
}

// Inspect reports the content of a token and whether the configuration accepts it. With
// online it fetches the public keys of the token's issuer first, if that is one
// of the configuration's.
func (n *Inspector) Inspect(ctx context.Context, credential identity.Credential, online bool) *Inspection {
	p := newProbe(n.a, credential)
	p.judge(ctx, n, online)
	return p.report(Accepted)
}

// Decode reports the content of a token, without a configuration: whether it is one
// that Bitbucket Pipelines could have made and whose time is now, by the default
// bounds. It checks neither the signature nor the audience.
func Decode(credential identity.Credential, now func() time.Time) *Inspection {
	p := newProbe(&Authenticator{config: Config{}.withDefaults(), now: now}, credential)
	p.judgeAlone()
	return p.report(NotJudged)
}
