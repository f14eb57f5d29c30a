package bitbucket

import "github.com/sallyport/sallyport/identity"

// check is one thing that is checked in a token.
type check uint8

const (
	checkSize check = iota
	checkForm
	checkBase64
	checkJSON
	checkDuplicates
	checkCase
	checkAlgorithm
	checkKeyID
	checkType
	checkHeader
	checkIssuer
	checkClaims
	checkTimes
	checkText
	checkExpiry
	checkKey
	checkSignature
	checkLibrary
	checkIssuedAt
	checkNotBefore
	checkLifetime
	checkAudience
	checkWorkspace
	checkSubject
	checkRevoked
	checkNamed
	checkCount
)

var checkLabels = [checkCount]string{
	"size", "form", "base64", "json", "duplicates", "case", "algorithm", "key_id", "type", "header", "issuer",
	"claims", "times", "text", "expiry", "key", "signature", "library", "issued_at", "not_before", "lifetime",
	"audience", "workspace", "subject", "revoked", "names",
}

func (c check) String() string { return checkLabels[c] }

// checkSet is a set of checks that are left out. An authenticator's own is empty
// but in tests, which show with it that each check is needed. [Inspector.Inspect]
// continues with it behind a check that failed, to find what else is wrong: what
// it returns is a report and never a principal. Nothing else sets one.
type checkSet uint32

func (s checkSet) has(c check) bool { return s&(1<<c) != 0 }

// leftOut returns the set with one more. It is for [Inspector.Inspect] alone.
func (s checkSet) leftOut(c check) checkSet { return s | 1<<c }

// refusal is the error inside an [identity.Error]: which check refused, and
// what a log may know beyond the client.
type refusal struct {
	check check
	err   error
}

func (r *refusal) Error() string {
	if r.err != nil {
		return "check " + r.check.String() + ": " + r.err.Error()
	}
	return "check " + r.check.String()
}

func (r *refusal) Unwrap() error { return r.err }

// refuse makes the error of a check.
func refuse(c check, p identity.Problem, detail string, err error) *identity.Error {
	return &identity.Error{Problem: p, Detail: detail, Err: &refusal{c, err}}
}
