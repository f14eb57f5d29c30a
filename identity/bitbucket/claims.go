package bitbucket

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
)

const (
	maxTokenAudiences = 10 // oidc: audiences: allows as many
	maxBranch         = 255
	maxSubject        = 3 * 40
)

// claims are the claims of a token that mean something here. UUIDs are bare and
// lower-case.
type claims struct {
	subject   string
	audiences []string
	expires   time.Time
	issued    time.Time
	notBefore time.Time // zero: not claimed

	workspace, repository, pipeline, step string
	deployment                            string // empty: the step deploys nothing
	branch                                string // empty: the run has no branch
}

// readClaims reads the payload of a token by the claims' exact names. Other claims
// are ignored, deploymentEnvironment in particular: Atlassian's sample shows it, but
// it is a name, and names are not identity.
func readClaims(o object, skip checkSet) (*claims, *identity.Error) {
	var c claims
	strict := !skip.has(checkClaims)
	if refused := c.readUUIDs(o); refused != nil && strict {
		return nil, refused
	}
	if refused := c.readTexts(o); refused != nil && strict {
		return nil, refused
	}
	if (len(c.branch) > maxBranch || !printable.IsClean(c.branch)) && !skip.has(checkText) {
		return nil, refuse(checkText, identity.CredentialClaims,
			fmt.Sprintf("the token's branchName is longer than %d bytes or has characters that cannot be shown", maxBranch), nil)
	}
	if refused := c.readTimes(o, skip); refused != nil {
		return nil, refused
	}
	return &c, nil
}

// readUUIDs reads the claims that are UUIDs, and returns the first that is invalid.
func (c *claims) readUUIDs(o object) (refused *identity.Error) {
	for _, f := range []struct {
		name     string
		into     *string
		optional bool
	}{
		{"workspaceUuid", &c.workspace, false}, {"repositoryUuid", &c.repository, false},
		{"pipelineUuid", &c.pipeline, false}, {"stepUuid", &c.step, false},
		{"deploymentEnvironmentUuid", &c.deployment, true},
	} {
		if f.optional && isAbsent(o, f.name) {
			continue
		}
		s, _ := o.text(f.name)
		id, ok := uuid.Parse(s)
		if !ok && refused == nil {
			refused = refuseClaim(f.name, "a UUID")
		}
		*f.into = id
	}
	return refused
}

// readTexts reads sub, aud and branchName, and returns the first that is invalid.
func (c *claims) readTexts(o object) (refused *identity.Error) {
	var isSubject, isList, isBranch bool
	c.subject, isSubject = o.text("sub")
	c.audiences, isList = readAudiences(o["aud"])
	c.branch, isBranch = o.optionalText("branchName")
	switch {
	case !isSubject || len(c.subject) > maxSubject:
		return refuseClaim("sub", "a short string")
	case !isList:
		return refuseClaim("aud", fmt.Sprintf("a string or a list of 1 to %d strings", maxTokenAudiences))
	case !isBranch:
		return refuseClaim("branchName", "a string or absent")
	}
	return nil
}

func refuseClaim(name, expected string) *identity.Error {
	return refuse(checkClaims, identity.CredentialClaims, "the token's claim "+name+" must be "+expected, nil)
}

// isAbsent reports whether an optional claim is missing, null or empty: Bitbucket may
// send each of these for what a run does not have.
func isAbsent(o object, name string) bool {
	raw, found := o[name]
	return !found || string(raw) == "null" || string(raw) == `""`
}

// readTimes reads exp, iat and nbf. Without exp or iat a token's lifetime is
// unknown, so both are required (Bitbucket sends both).
func (c *claims) readTimes(o object, skip checkSet) *identity.Error {
	for _, f := range []struct {
		name     string
		into     *time.Time
		optional bool
	}{{"exp", &c.expires, false}, {"iat", &c.issued, false}, {"nbf", &c.notBefore, true}} {
		raw, found := o[f.name]
		if !found && f.optional {
			continue
		}
		t, ok := parseNumericDate(raw)
		if !ok && !skip.has(checkTimes) {
			return refuse(checkTimes, identity.CredentialClaims, "the token's claim "+f.name+" must be a time in seconds since 1970", nil)
		}
		*f.into = t
	}
	return nil
}

// parseNumericDate reads a NumericDate (RFC 7519 section 2): seconds since 1970
// in plain digits, up to the year 9999. A fraction is accepted, for the RFC
// allows one, and dropped; signs, exponents and strings are not.
func parseNumericDate(raw json.RawMessage) (time.Time, bool) {
	whole, fraction, hasFraction := strings.Cut(string(raw), ".")
	if !isDigits(whole, 12) || hasFraction && !isDigits(fraction, 9) {
		return time.Time{}, false
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n > 253402300799 {
		return time.Time{}, false
	}
	return time.Unix(n, 0), true
}

func isDigits(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// readAudiences reads aud, which is a string or a list (RFC 7519 section 4.1.3).
func readAudiences(raw json.RawMessage) ([]string, bool) {
	if len(raw) == 0 {
		return nil, false
	}
	var list []json.RawMessage
	switch raw[0] {
	case '"':
		list = []json.RawMessage{raw}
	case '[':
		if json.Unmarshal(raw, &list) != nil {
			return nil, false
		}
	}
	if len(list) == 0 || len(list) > maxTokenAudiences {
		return nil, false
	}
	audiences := make([]string, len(list))
	for i, r := range list {
		if len(r) == 0 || r[0] != '"' || json.Unmarshal(r, &audiences[i]) != nil || audiences[i] == "" {
			return nil, false
		}
	}
	return audiences, true
}
