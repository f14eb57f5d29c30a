package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// The stages of the way of a token, in the order in which verify goes. The
// checks of a stage are found by one function.
var (
	stageForm = []check{checkSize, checkForm, checkBase64, checkJSON, checkDuplicates, checkCase,
		checkAlgorithm, checkHeader, checkType, checkKeyID}
	stageClaims   = []check{checkClaims, checkText, checkTimes}
	stageKey      = []check{checkSignature, checkLibrary}
	stageTimes    = []check{checkIssuedAt, checkNotBefore, checkLifetime}
	stageIdentity = []check{checkAudience, checkWorkspace, checkSubject}
)

// abouts are the descriptions of the checks.
var abouts = map[check]string{
	checkSize:       "it is no larger than a step's token",
	checkForm:       "it has the three parts of a signed token",
	checkBase64:     "its parts are canonical base64url",
	checkJSON:       "header and payload are JSON objects",
	checkDuplicates: "no name occurs twice",
	checkCase:       "no name occurs twice in another case",
	checkAlgorithm:  "it is signed with RS256",
	checkHeader:     "its header asks for nothing special",
	checkType:       "it is of no other type",
	checkKeyID:      "it names the key that signed it",
	checkIssuer:     "its issuer is configured",
	checkClaims:     "every claim is there and of its type",
	checkText:       "its branch can be shown",
	checkTimes:      "its times are times",
	checkExpiry:     "it has not ended",
	checkKey:        "its issuer publishes the key",
	checkSignature:  "its signature is the key's",
	checkLibrary:    "it is what OpenID Connect knows",
	checkIssuedAt:   "it was issued in the past",
	checkNotBefore:  "its time has begun",
	checkLifetime:   "it does not live too long",
	checkAudience:   "it is meant for this proxy",
	checkWorkspace:  "it is of the issuer's workspace",
	checkSubject:    "sub agrees with its UUIDs",
}

// probe is one inspection under way.
type probe struct {
	a       *Authenticator
	raw     string
	now     time.Time
	content *Content
	checks  []Checked
	failed  map[check]bool
	problem identity.Problem
	keys    *Keys
	notes   []string
}

func newProbe(a *Authenticator, credential identity.Credential) *probe {
	p := &probe{a: a, raw: credential.Reveal(), now: a.now(), failed: map[check]bool{}}
	p.content = readContent(p.raw)
	return p
}

func (p *probe) note(c check, r Result, detail string) {
	p.checks = append(p.checks, Checked{Check: c.String(), About: abouts[c], Result: r, Detail: detail})
}

func (p *probe) fail(e *identity.Error) {
	c := checkOf(e)
	p.failed[c] = true
	if p.problem == "" {
		p.problem = e.Problem
	}
	p.note(c, Failed, e.Detail)
}

func (p *probe) notReached(why string, stages ...[]check) {
	for _, stage := range stages {
		for _, c := range stage {
			p.note(c, NotReached, why)
		}
	}
}

func checkOf(e *identity.Error) check {
	if r, ok := errors.AsType[*refusal](e.Err); ok {
		return r.check
	}
	return checkCount // not one of ours: it cannot be gone behind
}

// through runs a stage again and again, each time without the checks that have
// failed, until nothing more fails or a failure cannot be gone behind. It
// reports whether it came to the end.
func (p *probe) through(stage []check, run func(skip checkSet) *identity.Error) bool {
	failures := map[check]*identity.Error{}
	var without checkSet
	stuck := checkCount
	for {
		refused := run(without)
		if refused == nil {
			break
		}
		c := checkOf(refused)
		if failures[c] != nil || c == checkCount {
			stuck = c
			break
		}
		failures[c] = refused
		without = without.leftOut(c)
	}
	behind := false
	for _, c := range stage {
		switch {
		case failures[c] != nil:
			p.fail(failures[c])
		case p.failed[c]: // an earlier stage has seen it fail
		case behind:
			p.note(c, NotReached, "")
		default:
			p.note(c, Passed, "")
		}
		behind = behind || c == stuck
		delete(failures, c)
	}
	for _, e := range failures { // of a check that is listed elsewhere: the issuer's claim
		p.fail(e)
	}
	return stuck == checkCount
}

// anyFailed reports whether one of the checks has failed.
func (p *probe) anyFailed(stage ...check) bool {
	for _, c := range stage {
		if p.failed[c] {
			return true
		}
	}
	return false
}

// judge checks everything.
func (p *probe) judge(ctx context.Context, n *Inspector, online bool) {
	t, ok := p.form()
	if !ok {
		p.notReached("", []check{checkIssuer}, stageClaims, []check{checkExpiry, checkKey}, stageKey, stageTimes, stageIdentity)
		return
	}
	i := p.a.issuers[t.issuer]
	if i == nil {
		p.fail(unknownIssuer(t.issuer))
	} else {
		p.note(checkIssuer, Passed, "")
	}
	c := p.claims(t)
	p.expiry(c)
	p.signature(ctx, n, i, t, online)
	p.times(c)
	p.inspectIdentity(i, c)
	p.notes = append(p.notes, "Whether an operator has revoked it is known to running instances only: see `sallyport token revocations`.")
}

// judgeAlone checks what can be judged without a configuration.
func (p *probe) judgeAlone() {
	t, ok := p.form()
	if !ok {
		return
	}
	c := p.claims(t)
	p.expiry(c)
	p.times(c)
	if c != nil && !p.failed[checkClaims] {
		p.subject(c)
	}
}

func (p *probe) form() (t *token, ok bool) {
	ok = p.through(stageForm, func(skip checkSet) (refused *identity.Error) {
		t, refused = parseToken(p.raw, skip)
		return refused
	})
	return t, ok
}

func (p *probe) claims(t *token) (c *claims) {
	p.through(stageClaims, func(skip checkSet) (refused *identity.Error) {
		c, refused = readClaims(t.members, skip)
		return refused
	})
	return c
}

func (p *probe) expiry(c *claims) {
	switch {
	case c == nil || p.failed[checkTimes]:
		p.notReached("its times cannot be read", []check{checkExpiry})
	case p.now.Before(c.expires.Add(p.a.config.Leeway)):
		p.note(checkExpiry, Passed, "")
	case p.a.mayHaveBeenAdmitted(c, p.now):
		p.note(checkExpiry, Unknown, fmt.Sprintf("the token ended at %s; if it was admitted before that, it is accepted for identity.expired_token_grace_period, "+
			"which is %v, from then on; running instances know", stamp(c.expires), p.a.config.AdmittedMaxAge))
	default:
		p.fail(expired(c))
	}
}

// signature judges key and signature, with the keys that are at hand.
func (p *probe) signature(ctx context.Context, n *Inspector, i *issuer, t *token, online bool) {
	switch {
	case i == nil:
		p.notReached("its issuer is not configured, so its keys are not looked for", []check{checkKey}, stageKey)
		return
	case p.anyFailed(stageForm...):
		p.notReached("a token of this form is not checked further", []check{checkKey}, stageKey)
		return
	}
	k, missing := p.key(ctx, n, i, t.keyID, online)
	switch {
	case k == nil && missing != "":
		p.note(checkKey, Unknown, missing)
		p.notReached("this cannot be checked without the key", stageKey)
	case k == nil:
		p.fail(i.keys.notPublished())
		p.notReached("this cannot be checked without the key", stageKey)
	default:
		p.note(checkKey, Passed, "")
		p.through(stageKey, func(skip checkSet) *identity.Error { return provenWith(ctx, k, i.url, t, skip) })
	}
}

// key finds the issuer's key. If there is none, missing is how to find out; it is empty
// if the issuer has just returned its keys without this one.
func (p *probe) key(ctx context.Context, n *Inspector, i *issuer, id string, online bool) (k *key, missing string) {
	var err error
	if online {
		err = i.keys.refresh(ctx)
	}
	st := i.keys.current(p.now)
	if st != nil {
		p.keys = &Keys{Issuer: i.url, Count: len(st.keys), Fetched: st.fetched.UTC(), Online: !st.fromDisk}
		if k = st.keys[id]; k != nil {
			return k, ""
		}
	}
	switch {
	case err != nil:
		return nil, fmt.Sprintf("the issuer's keys cannot be fetched: %v", err)
	case st != nil && !st.fromDisk:
		return nil, ""
	case st != nil:
		return nil, fmt.Sprintf("the key is not among those that were kept at %s; --online asks the issuer for its public keys", stamp(st.fetched))
	case n.unread[i.url] != nil:
		return nil, fmt.Sprintf("the keys that the server keeps cannot be read: %v; run this as the server's user, or use --online, which asks the issuer for its public keys", n.unread[i.url])
	}
	return nil, "no keys of the issuer are kept here; --online asks the issuer for its public keys"
}

func (p *probe) times(c *claims) {
	if c == nil || p.failed[checkTimes] {
		p.notReached("its times cannot be read", stageTimes)
		return
	}
	p.through(stageTimes, func(skip checkSet) *identity.Error { return p.a.judgeTimes(c, p.now, skip) })
}

// inspectIdentity checks the audience and the subject of the token. Where its issuer is unknown
// it is compared with the one workspace that it can be about.
func (p *probe) inspectIdentity(i *issuer, c *claims) {
	if c == nil || p.failed[checkClaims] {
		p.notReached("its claims cannot be read", stageIdentity)
		return
	}
	for _, other := range p.a.list {
		if i == nil && (len(p.a.list) == 1 || other.workspace.UUID == c.workspace) {
			i = other
		}
	}
	if i == nil {
		p.notReached("no workspace of the configuration is the token's", []check{checkAudience, checkWorkspace})
		p.subject(c)
		return
	}
	p.through(stageIdentity, func(skip checkSet) *identity.Error { return judgeIdentity(&i.workspace, c, skip) })
}

func (p *probe) subject(c *claims) {
	p.through([]check{checkSubject}, func(skip checkSet) *identity.Error {
		return judgeIdentity(&Workspace{}, c, skip.leftOut(checkAudience).leftOut(checkWorkspace))
	})
}

// report sums up; best is the verdict where nothing stands against it.
func (p *probe) report(best Verdict) *Inspection {
	r := &Inspection{Verdict: best, Problem: p.problem, Content: p.content, Checks: p.checks, Keys: p.keys, Notes: p.notes}
	for _, c := range p.checks {
		if c.Result == Unknown && r.Verdict == Accepted {
			r.Verdict = Undecided
		}
	}
	if len(p.failed) > 0 {
		r.Verdict = Refused
	}
	return r
}
