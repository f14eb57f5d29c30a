package configcmd

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/config"
)

// scopesHeader is where Bitbucket names the scopes of an access token. Atlassian does
// not document it for every kind of token: where it is missing, nothing follows.
const scopesHeader = "X-OAuth-Scopes"

// answers keeps the metadata of the responses of an issuer and its API: the server's
// clock and the scopes of the access token. It is safe for concurrent use.
type responseLog struct {
	http.RoundTripper

	mu     sync.Mutex
	dated  bool
	offset time.Duration // of the server's clock, ahead of ours
	scopes []string      // nil: not reported
}

func (a *responseLog) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	response, err := a.RoundTripper.RoundTrip(r)
	if err != nil {
		return response, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// Date has whole seconds (RFC 9110 section 6.6.1). A cached response is as old as
	// its Age, so its Date is not the server's current time.
	issuer := r.Header.Get("Authorization") == ""
	if date, err := http.ParseTime(response.Header.Get("Date")); issuer && err == nil && response.Header.Get("Age") == "" {
		middle := began.Add(time.Since(began) / 2)
		a.dated, a.offset = true, date.Add(time.Second/2).Sub(middle)
	}
	if value := response.Header.Get(scopesHeader); value != "" && !issuer {
		a.scopes = strings.FieldsFunc(value, func(c rune) bool { return c == ',' || c == ' ' })
	}
	return response, nil
}

// issuerTolerance is the difference of the clocks that is worth a warning: the Date
// field has whole seconds.
const issuerTolerance = 2 * time.Second

// clock compares the clocks. Tokens carry times of the issuer's.
func (a *responseLog) clock(leeway time.Duration) (detail, warning string) {
	if !a.dated {
		return "the issuer reports no time", ""
	}
	offset := a.offset.Round(time.Second / 10)
	if offset.Abs() <= issuerTolerance {
		return fmt.Sprintf("clocks differ by %s at most", issuerTolerance), ""
	}
	warning = fmt.Sprintf("this machine's clock differs from the issuer's by %s: synchronize it with NTP", offset.Abs())
	switch {
	case offset > leeway:
		warning += fmt.Sprintf("; it is behind by more than identity.leeway (%s), so that new tokens are refused as not yet valid", leeway)
	case -offset > leeway:
		warning += fmt.Sprintf("; it is ahead by more than identity.leeway (%s), so that tokens are refused before they end", leeway)
	}
	return fmt.Sprintf("clocks differ by %s", offset.Abs()), warning
}

// neededScopes are those without which something does not work, and what it is.
func neededScopes(cfg *config.Config, workspace string) map[string]string {
	needed := map[string]string{
		"repository": "names of repositories are not known",
		"pipeline":   "names of deployments are not known, and deployments are not compared with the log",
	}
	if approved, _, ok := cfg.Policy.BitbucketRepository(); ok && cfg.Policy.Approvals.Enabled && approved == workspace {
		needed["pullrequest"] = "approvals of the policy are not read"
	}
	return needed
}

// checkScopes lists what the access token may do, and warns of what is missing and of
// what is too much.
func (a *responseLog) checkScopes(needed map[string]string) (detail string, warnings []string) {
	if a.scopes == nil {
		return "the API does not report the access token's scopes", nil
	}
	for _, scope := range []string{"repository", "pipeline", "pullrequest"} {
		if effect, ok := needed[scope]; ok && !slices.ContainsFunc(a.scopes, func(has string) bool { return includes(has, scope) }) {
			warnings = append(warnings, fmt.Sprintf("the access token lacks the scope %s, so that %s: make a token that has it", scope, effect))
		}
	}
	for _, has := range a.scopes {
		if changes(has) {
			warnings = append(warnings, fmt.Sprintf("the access token has the scope %s, with which every reader of its file can change things: create a token with read scopes only", has))
		}
	}
	return "the access token has the scopes " + strings.Join(a.scopes, ", "), warnings
}

// includes reports whether a scope contains a classic one to read. The new ones are
// written read:repository:bitbucket.
func includes(has, scope string) bool {
	return has == scope || strings.HasPrefix(has, scope+":") || strings.HasSuffix(has, ":"+scope+":bitbucket")
}

// changes reports whether a scope is for more than to read.
func changes(scope string) bool {
	for _, part := range strings.Split(scope, ":") {
		if part == "write" || part == "admin" || part == "delete" {
			return true
		}
	}
	return false
}
