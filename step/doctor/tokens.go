package doctor

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// claims are the claims of a step's token that are checked. The signature is not verified
// here: the server does that.
type claims struct {
	Issuer     string   `json:"iss"`
	Audience   audience `json:"aud"`
	Expires    float64  `json:"exp"`
	Issued     float64  `json:"iat"`
	Step       string   `json:"stepUuid"`
	Repository string   `json:"repositoryUuid"`
	Pipeline   string   `json:"pipelineUuid"`
	Workspace  string   `json:"workspaceUuid"`
	Deployment string   `json:"deploymentEnvironmentUuid"`
}

// audience is a string or a list of strings (RFC 7519 section 4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// errShape is the error of a text that is not a JWT in compact form.
var errShape = errors.New("the token is not a JWT of three parts in base64url")

// parseClaims reads the header and the claims of a JWT (RFC 7515 section 3.1). Its errors
// have no part of the token.
func parseClaims(secret string) (algorithm string, c *claims, err error) {
	parts := strings.Split(secret, ".")
	if len(parts) != 3 || parts[2] == "" {
		return "", nil, errShape
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	c = &claims{}
	for i, into := range []any{&header, c} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) || json.Unmarshal(text, into) != nil {
			return "", nil, errShape
		}
	}
	return header.Algorithm, c, nil
}

const (
	issuerPrefix    = "https://api.bitbucket.org/2.0/workspaces/"
	issuerSuffix    = "/pipelines-config/identity/oidc"
	defaultAudience = "ari:cloud:bitbucket::workspace/" // followed by the UUID of the workspace
	soon            = 5 * time.Minute
	clockTolerance  = 30 * time.Second
)

// checkToken checks what can be seen of the token without the server. It returns nil if
// there is no token of the right shape.
func (x *examination) checkToken(ctx context.Context) *claims {
	if x.secret.IsZero() && x.Step != nil {
		x.add("token", Skipped, x.TokenOrigin+" has no token; the forwarder has it", "")
		return nil
	}
	if x.secret.IsZero() {
		cause := "no source of the token is configured"
		if x.Token != nil {
			_, err := x.Token.Token(ctx)
			cause = fmt.Sprint(err)
		}
		x.fail("token", "add oidc with the proxy's audience to the step, and pass the token to this process", "%s: %s", x.TokenOrigin, cause)
		return nil
	}
	algorithm, c, err := parseClaims(x.secret.Reveal())
	switch {
	case err != nil:
		x.fail("token shape", "use the value of BITBUCKET_STEP_OIDC_TOKEN unchanged", "%v", err)
		return nil
	case algorithm != "RS256":
		x.fail("token shape", "use the value of BITBUCKET_STEP_OIDC_TOKEN unchanged", "the token is signed with %q, and Bitbucket's are signed with RS256", algorithm)
	default:
		x.ok("token shape", "a JWT signed with RS256, from %s", x.TokenOrigin)
	}
	x.checkIssuer(c)
	x.checkAudience(c)
	x.checkExpiry(c)
	x.checkBinding(c)
	return c
}

func (x *examination) checkIssuer(c *claims) {
	switch {
	case c.Issuer == "":
		x.fail("token issuer", "use the step's own OIDC token", "the token has no issuer")
	case !strings.HasPrefix(c.Issuer, issuerPrefix) || !strings.HasSuffix(c.Issuer, issuerSuffix):
		x.warn("token issuer", "use the step's own OIDC token, unless the server accepts this issuer", "%s is not an issuer of Bitbucket Pipelines", c.Issuer)
	default:
		x.ok("token issuer", "%s", c.Issuer)
	}
}

func (x *examination) checkAudience(c *claims) {
	list := strings.Join(c.Audience, ", ")
	switch {
	case len(c.Audience) == 0:
		x.fail("token audience", "add the proxy's audience to oidc.audiences of the step", "the token has no audience")
	case !slices.ContainsFunc(c.Audience, func(a string) bool { return !strings.HasPrefix(a, defaultAudience) }):
		x.warn("token audience", "add the proxy's audience to oidc.audiences of the step", "%s is Bitbucket's default audience, which other services accept too", list)
	default:
		x.ok("token audience", "%s", list)
	}
}

func (x *examination) checkExpiry(c *claims) {
	// The bound is the year 9999, the last that a time in JSON can have.
	const latest = 253402300799
	if !(0 < c.Expires && c.Expires <= latest) {
		x.fail("token expiry", "use the step's own OIDC token", "the token has no valid expiry")
		return
	}
	end, now := time.Unix(int64(c.Expires), 0).UTC(), x.Now()
	switch left := end.Sub(now); {
	case left <= 0:
		x.fail("token expiry", "start a new step, or give --token-command to renew the token; check the step's clock", "the token expired at %s; it is %s", end.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case c.Issued > 0 && c.Issued <= latest && time.Unix(int64(c.Issued), 0).Sub(now) > clockTolerance:
		x.warn("token expiry", "check the step's clock", "the token was issued in the future, at %s", time.Unix(int64(c.Issued), 0).UTC().Format(time.RFC3339))
	case left < soon:
		x.warn("token expiry", "start a new step, or give --token-command to renew the token", "the token expires in %s", left.Round(time.Second))
	default:
		x.ok("token expiry", "the token expires at %s, in %s", end.Format(time.RFC3339), left.Round(time.Second))
	}
}

// checkBinding compares the token with the step's variables, which the step could change:
// it finds a token of another step, and proves nothing.
func (x *examination) checkBinding(c *claims) {
	for _, b := range []struct{ name, variable, claim string }{
		{"token step", "BITBUCKET_STEP_UUID", c.Step},
		{"token repository", "BITBUCKET_REPO_UUID", c.Repository},
	} {
		if own := x.environment[b.variable]; own != "" && canonicalUUID(own) != canonicalUUID(b.claim) {
			x.fail(b.name, "use the token of this step", "the token is for %q, and %s is %q", b.claim, b.variable, own)
		}
	}
	own := x.environment["BITBUCKET_DEPLOYMENT_ENVIRONMENT_UUID"]
	switch {
	case canonicalUUID(own) != canonicalUUID(c.Deployment) && own != "":
		x.fail("token deployment", "use the token of this step, which has deployment", "the token is for deployment %q, and the step deploys to %q", c.Deployment, own)
	case c.Deployment == "":
		x.ok("token deployment", "none: rules for a deployment do not apply to this step")
	default:
		x.ok("token deployment", "%s", c.Deployment)
	}
}

// canonicalUUID removes the braces of Bitbucket's UUIDs.
func canonicalUUID(s string) string { return strings.ToLower(strings.Trim(s, "{}")) }
