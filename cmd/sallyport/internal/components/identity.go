package components

import (
	"path/filepath"

	"github.com/sallyport/sallyport/identity/bitbucket"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/config"
)

// Identity is the part of the configuration that determines whose tokens are accepted.
func Identity(cfg *config.Config) bitbucket.Config {
	c := bitbucket.Config{
		StateDirectory: filepath.Join(cfg.DataDirectory, "identity"),
		Leeway:         cfg.Identity.Leeway,
		NameWait:       cfg.Identity.NameLookupTimeout,
		MaxLifetime:    cfg.Identity.MaxLifetime,
		KeyMaxAge:      cfg.Identity.JWKSMaxAge,
		NameMaxAge:     cfg.Identity.NameCacheMaxAge,
		AdmittedMaxAge: cfg.Identity.ExpiredTokenGracePeriod,
	}
	if c.Leeway == 0 {
		c.Leeway = -1 // the configured leeway is zero, and zero here is the default
	}
	for _, w := range cfg.Identity.Bitbucket {
		workspace := bitbucket.Workspace{Slug: w.Workspace, UUID: w.WorkspaceUUID, Issuer: w.Issuer, Audiences: w.Audiences}
		if w.API != nil {
			workspace.API = &bitbucketapi.Config{URL: w.API.URL.String(), Token: w.API.Token.Read}
		}
		c.Workspaces = append(c.Workspaces, workspace)
	}
	return c
}
