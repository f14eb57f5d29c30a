package bitbuckettest

import (
	"slices"
	"time"
)

// DefaultLifetime of a token. Atlassian does not publish the real one.
const DefaultLifetime = time.Hour

// TokenOptions configure a step's token. The zero value is the token of a
// step with "oidc: true", issued now.
type TokenOptions struct {
	// Audiences of the step's oidc.audiences. None means the workspace's default
	// audience alone. One is a string in the token, several are an array.
	Audiences []string
	// AudienceArray makes one audience an array too: which of the two Bitbucket
	// does is not known.
	AudienceArray bool

	IssuedAt time.Time     // zero: the server's clock
	Lifetime time.Duration // zero: DefaultLifetime; negative: expired from birth

	// Edit changes the claims before they are signed.
	Edit func(claims map[string]any)
	// Header is put over alg, kid and typ; a nil value takes a field away.
	Header map[string]any
	// Key signs instead of the workspace's current key.
	Key *Key
}

// Token returns a token of the step as Pipelines would put it into
// BITBUCKET_STEP_OIDC_TOKEN: RS256, with the names that repository and
// workspace have now. It also does so for what has been deleted, as a token
// outlives it.
func (t *Step) Token(o TokenOptions) string {
	claims := t.Claims(o)
	key := o.Key
	if key == nil {
		key = t.Pipeline.Repository.Workspace().Key()
	}
	return key.Sign(o.Header, claims)
}

// Claims returns what Token signs.
func (t *Step) Claims(o TokenOptions) map[string]any {
	s, p, r := t.server, t.Pipeline, t.Pipeline.Repository
	w := r.Workspace()
	issued := o.IssuedAt
	if issued.IsZero() {
		issued = s.now()
	}
	lifetime := o.Lifetime
	if lifetime == 0 {
		lifetime = DefaultLifetime
	}
	claims := map[string]any{
		"iss":            w.Issuer(),
		"aud":            audience(o, w),
		"sub":            t.Subject(),
		"iat":            issued.Unix(),
		"exp":            issued.Add(lifetime).Unix(),
		"stepUuid":       Braced(t.UUID),
		"repositoryUuid": Braced(r.UUID),
		"pipelineUuid":   Braced(p.UUID),
		"workspaceUuid":  Braced(w.UUID),
	}
	if p.Branch != "" {
		claims["branchName"] = p.Branch
	}
	if t.Environment != nil {
		claims["deploymentEnvironmentUuid"] = Braced(t.Environment.UUID)
	}
	if o.Edit != nil {
		o.Edit(claims)
	}
	return claims
}

// Subject returns the sub claim: {repository}:{environment}:{step}, or
// {repository}:{step} for a step that deploys nothing.
func (t *Step) Subject() string {
	sub := Braced(t.Pipeline.Repository.UUID) + ":"
	if t.Environment != nil {
		sub += Braced(t.Environment.UUID) + ":"
	}
	return sub + Braced(t.UUID)
}

func audience(o TokenOptions, w *Workspace) any {
	audiences := slices.Clone(o.Audiences)
	if len(audiences) == 0 {
		audiences = []string{w.DefaultAudience()}
	}
	if len(audiences) == 1 && !o.AudienceArray {
		return audiences[0]
	}
	return audiences
}
