package bitbucket

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
)

// verify proves a token: it returns what is remembered of it, or why it is
// refused. Everything that needs no key comes first, so that a token that could
// never be accepted costs the issuer nothing.
func (a *Authenticator) verify(ctx context.Context, raw string, d digest, now time.Time) (*verified, *issuer, *identity.Error) {
	t, refused := parseToken(raw, a.skip)
	if refused != nil {
		return nil, nil, refused
	}
	// RFC 8725 section 3.8: compared byte by byte with the configuration. A token never
	// adds an issuer.
	i := a.issuers[t.issuer]
	if i == nil && a.skip.has(checkIssuer) {
		i = a.list[0]
	}
	if i == nil {
		return nil, nil, unknownIssuer(t.issuer)
	}
	c, refused := readClaims(t.members, a.skip)
	if refused != nil {
		return nil, i, refused
	}
	v := &verified{issuer: i, digest: d, claims: c,
		kind: identity.CredentialOIDC, ends: c.expires.Add(a.config.Leeway), expires: c.expires}
	ended := !now.Before(v.ends) && !a.skip.has(checkExpiry)
	if ended && !a.mayHaveBeenAdmitted(c, now) {
		return nil, i, a.withPrincipal(ctx, v, t, expired(c))
	}
	if v.key, refused = a.provenBy(ctx, i, t); refused != nil {
		return nil, i, refused
	}
	if refused := a.judgeTimes(c, now, a.skip); refused != nil {
		return nil, i, a.withPrincipal(ctx, v, t, refused)
	}
	if refused := judgeIdentity(&i.workspace, c, a.skip); refused != nil {
		return nil, i, a.withPrincipal(ctx, v, t, refused)
	}
	if ended {
		if v.ends, refused = a.admittedUntil(ctx, v, now); refused != nil {
			return nil, i, a.withPrincipal(ctx, v, t, refused)
		}
		v.kind, v.expires = identity.CredentialAdmitted, v.ends
	}
	v.present.Store(&presentation{principal: v.principal()})
	return v, i, nil
}

// withPrincipal adds the principal to a refusal, for the record, if it is proven: a key of the
// issuer signed the token, and its workspace and subject are valid. Whatever else is
// wrong with the token, the issuer states that it is this step's. A key that is not held
// is not fetched: a refused token costs the issuer nothing.
func (a *Authenticator) withPrincipal(ctx context.Context, v *verified, t *token, refused *identity.Error) *identity.Error {
	if v.claims.workspace != v.issuer.workspace.UUID || !subjectAgrees(v.claims) {
		return refused
	}
	if v.key == nil {
		k := v.issuer.keys.held(t.keyID)
		if k == nil || a.checkSignature(ctx, k, v.issuer.url, t, a.skip) != nil {
			return refused
		}
	}
	refused.Principal = v.principal()
	if n := v.issuer.names; n != nil {
		refused.Principal = n.recall(refused.Principal)
	}
	return refused
}

func unknownIssuer(issuer string) *identity.Error {
	return refuse(checkIssuer, identity.CredentialIssuer, fmt.Sprintf(
		"the token's issuer %s is not one of those that this proxy accepts; is this the right proxy for this workspace?", printable.Quote(issuer)), nil)
}

func expired(c *claims) *identity.Error {
	return refuse(checkExpiry, identity.CredentialExpired, fmt.Sprintf(
		"the token ended at %s; a step's token is not renewed, so what needs it must begin before then", stamp(c.expires)), nil)
}

// provenBy returns the issuer's key that signed the token.
func (a *Authenticator) provenBy(ctx context.Context, i *issuer, t *token) (*key, *identity.Error) {
	k, refused := i.keys.find(ctx, t.keyID, a.skip)
	if refused != nil {
		return nil, refused
	}
	if refused := a.checkSignature(ctx, k, i.url, t, a.skip); refused != nil {
		return nil, refused
	}
	return k, nil
}

// provenWith reports whether this key signed the token.
func provenWith(ctx context.Context, k *key, issuer string, t *token, skip checkSet) *identity.Error {
	set := &oneKey{key: k, payload: t.payload, skip: skip}
	id, libraryErr := oidc.NewVerifier(issuer, set, &oidc.Config{
		SupportedSigningAlgs: []string{oidc.RS256},
		SkipClientIDCheck:    true, // any of several is right: judgeIdentity
		SkipExpiryCheck:      true, // without a leeway, and 5 minutes of it for nbf: judgeTimes
	}).Verify(ctx, t.raw)
	switch {
	case set.err != nil:
		return refuse(checkSignature, identity.CredentialSignature,
			"the token's signature is not the issuer's; it was changed on its way or is not from Bitbucket", set.err)
	case libraryErr != nil && !skip.has(checkLibrary):
		return refuse(checkLibrary, identity.CredentialMalformed, "the token is not one that OpenID Connect knows", libraryErr)
	case libraryErr == nil && id.Issuer != t.issuer:
		return refuse(checkLibrary, identity.CredentialMalformed, "the token's issuer can be read in two ways", nil)
	}
	return nil
}

// oneKey is the key set of one verification: the one key that the token names.
// RFC 8725 section 3.1: a key is used with one algorithm only.
type oneKey struct {
	key     *key
	payload []byte // as we read it
	skip    checkSet
	err     error
}

// VerifySignature implements [oidc.KeySet].
func (s *oneKey) VerifySignature(_ context.Context, jwt string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(jwt, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, err // go-oidc has parsed it with the same library before
	}
	payload, err := jws.Verify(s.key.public)
	if err == nil && !bytes.Equal(payload, s.payload) {
		err = fmt.Errorf("the payload that was signed is not the one that was read")
	}
	if s.skip.has(checkSignature) {
		return s.payload, nil
	}
	s.err = err
	return payload, err
}

// judgeTimes checks the times of RFC 7519 sections 4.1.4 to 4.1.6 other than the end.
func (a *Authenticator) judgeTimes(c *claims, now time.Time, skip checkSet) *identity.Error {
	latest := now.Add(a.config.Leeway)
	switch {
	case c.issued.After(latest) && !skip.has(checkIssuedAt):
		return refuse(checkIssuedAt, identity.CredentialNotYetValid, fmt.Sprintf(
			"the token was issued at %s, which is in the future; the clock of this proxy is at %s", stamp(c.issued), stamp(now)), nil)
	case c.notBefore.After(latest) && !skip.has(checkNotBefore):
		return refuse(checkNotBefore, identity.CredentialNotYetValid, fmt.Sprintf(
			"the token is valid from %s; the clock of this proxy is at %s", stamp(c.notBefore), stamp(now)), nil)
	case skip.has(checkLifetime):
	case !c.expires.After(c.issued):
		return refuse(checkLifetime, identity.CredentialLifetime, "the token ends before it begins", nil)
	case c.expires.Sub(c.issued) > a.config.MaxLifetime:
		return refuse(checkLifetime, identity.CredentialLifetime, fmt.Sprintf(
			"the token lives for %v, at most %v is accepted", c.expires.Sub(c.issued), a.config.MaxLifetime), nil)
	}
	return nil
}

// judgeIdentity checks audience, workspace and subject. Every workspace can request a
// token with a custom audience, so audience, issuer and workspace UUID must all match;
// and sub, which others rely on, must agree with the UUID claims.
func judgeIdentity(w *Workspace, c *claims, skip checkSet) *identity.Error {
	meant := slices.ContainsFunc(c.audiences, func(s string) bool { return slices.Contains(w.Audiences, s) })
	if !meant && !skip.has(checkAudience) {
		return refuse(checkAudience, identity.CredentialAudience, fmt.Sprintf(
			"the token is for %s and not for this proxy; give the step oidc: audiences: [%s] in bitbucket-pipelines.yml",
			quoteAll(c.audiences), strconv.Quote(w.Audiences[0])), nil)
	}
	if c.workspace != w.UUID && !skip.has(checkWorkspace) {
		return refuse(checkWorkspace, identity.CredentialWorkspace, fmt.Sprintf(
			"the token is of workspace {%s}, and its issuer is configured for another; the operator must compare workspace_uuid", c.workspace), nil)
	}
	if !subjectAgrees(c) && !skip.has(checkSubject) {
		return refuse(checkSubject, identity.CredentialSubject,
			"the token's sub does not agree with its repositoryUuid, deploymentEnvironmentUuid and stepUuid", nil)
	}
	return nil
}

// subjectAgrees reports whether sub is {repository}[:{environment}]:{step},
// as Bitbucket documents it, of the same UUIDs as the claims.
func subjectAgrees(c *claims) bool {
	expected := []string{c.repository, c.deployment, c.step}
	if c.deployment == "" {
		expected = []string{c.repository, c.step}
	}
	parts := strings.Split(c.subject, ":")
	return slices.EqualFunc(parts, expected, func(part, want string) bool {
		got, ok := uuid.Parse(part)
		return ok && got == want
	})
}

func quoteAll(list []string) string {
	quoted := make([]string, 0, 3)
	for i, s := range list {
		if i == 2 && len(list) > 3 {
			quoted = append(quoted, fmt.Sprintf("%d more", len(list)-i))
			break
		}
		quoted = append(quoted, printable.Quote(s))
	}
	return strings.Join(quoted, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
