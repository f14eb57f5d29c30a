package components

import (
	"path/filepath"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/policy/source"
)

// GitConfig is the repository that is configured, kept in a folder of this name.
func GitConfig(cfg *config.Config, folder string) (source.GitConfig, error) {
	g := cfg.Policy.Git
	c := source.GitConfig{
		URL: g.URL.String(), Branch: g.Branch, Tag: g.Tag, Path: g.Path,
		User: g.User, CAFile: g.CAFile, SSHKeyFile: g.SSHKeyFile, KnownHostsFile: g.KnownHostsFile,
		AllowRewind: g.NonFastForward == config.NonFastForwardAllow,
		Directory:   filepath.Join(cfg.DataDirectory, "policy", folder),
	}
	if !g.Credentials.IsZero() {
		c.Token = g.Credentials.Read
	}
	if g.AllowedSignersFile != "" {
		signers, err := source.ReadSigners(g.AllowedSignersFile)
		if err != nil {
			return c, cli.Invalid(err)
		}
		c.Signers = signers
	}
	return c, nil
}
