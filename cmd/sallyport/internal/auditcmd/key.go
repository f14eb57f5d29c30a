package auditcmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/internal/config"
)

func newKey() *cobra.Command {
	parent := &cobra.Command{
		Use:   "key",
		Short: "Manage the key that signs checkpoints",
		Long: `Work with the key that signs the checkpoints of the audit log. The instances of
one log share its key: audit.signing_key_file names the file. Without that key an
instance records, and does not seal.`,
		Args: cli.NoArguments, RunE: cli.Help,
	}
	parent.AddCommand(newKeyGenerate(), newKeyShow(), newKeyRotate(), newKeyReplace())
	return parent
}

func newKeyGenerate() *cobra.Command {
	c := &cobra.Command{
		Use:   "generate",
		Short: "Generate a key for a new log",
		Args:  cli.NoArguments,
	}
	path := c.Flags().StringP("out", "o", "", "`FILE` for the private key, which must not be there yet")
	origin := c.Flags().String("origin", "", "`NAME` of the log, which stands in every checkpoint (default: one that is made up)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *path == "" {
			return cli.Invalid(errors.New("--out FILE is needed: the private key is never printed"))
		}
		signer, err := components.NewSigner(*path, *origin)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), signer.Key())
		return err
	}
	return c
}

func newKeyShow() *cobra.Command {
	c := &cobra.Command{
		Use:   "show",
		Short: "Print the public half of this instance's key, for those who verify",
		Args:  cli.NoArguments,
	}
	path := cli.AddConfigFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		_, signer, err := ownKey(*path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), signer.Key())
		return err
	}
	return c
}

// ownKey reads the configuration and the key that this instance has.
func ownKey(path string) (*config.Config, *audit.Signer, error) {
	cfg, _, err := cli.LoadConfig(path)
	if err != nil {
		return nil, nil, err
	}
	signer, err := components.Signer(cfg)
	if err == nil && signer == nil {
		err = fmt.Errorf("there is no signing key in %s; the first instance makes one when it starts", cfg.DataDirectory)
	}
	return cfg, signer, err
}

func newKeyRotate() *cobra.Command {
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Rotate the signing key",
		Long: `Record an event in which the present key names the next one and signs that. The
present key signs one more checkpoint, which covers this event, and no other.

The file of the next key is made where it is not there yet. Put it in place of the
file of audit.signing_key_file, or of checkpoint-key in data_directory, of each
instance, which reads it again within seconds; until then events are recorded and
wait to be sealed. Keep the old public key for those who verify.`,
		Args: cli.NoArguments,
	}
	path := cli.AddConfigFlag(c)
	next := c.Flags().String("next", "", "`FILE` of the next private key")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *next == "" {
			return cli.Invalid(errors.New("--next FILE is needed"))
		}
		cfg, present, err := ownKey(*path)
		if err != nil {
			return err
		}
		signer, err := nextKey(c.Context(), *next, present.Key().Origin())
		if err != nil {
			return err
		}
		e, err := present.HandOver(signer, time.Now())
		if err != nil {
			return cli.Invalid(err)
		}
		if err := recordAdmin(c.Context(), cfg, e); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "handed over\nfrom %s\nto   %s\nput %s in place of each instance's signing key; it is read again within seconds\n", present.Key(), signer.Key(), *next)
		return err
	}
	return c
}

func newKeyReplace() *cobra.Command {
	c := &cobra.Command{
		Use:   "replace",
		Short: "Replace a lost signing key",
		Long: `Record an event that names another key, although the present one cannot sign
that. Verifiers find a key without a hand-over, and need its public half with --key.
If the present key is available, use rotate.`,
		Args: cli.NoArguments,
	}
	path := cli.AddConfigFlag(c)
	next := c.Flags().String("next", "", "`FILE` of the other private key")
	origin := c.Flags().String("origin", "", "`NAME` of the log, as in its checkpoints")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *next == "" || *origin == "" {
			return cli.Invalid(errors.New("--next FILE and --origin NAME are needed"))
		}
		cfg, _, err := cli.LoadConfig(*path)
		if err != nil {
			return err
		}
		signer, err := nextKey(c.Context(), *next, *origin)
		if err != nil {
			return err
		}
		if err := recordAdmin(c.Context(), cfg, audit.Register(signer, time.Now())); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "registered %s\nput %s in place of each instance's signing key; it is read again within seconds\n", signer.Key(), *next)
		return err
	}
	return c
}

// nextKey reads a key, or makes it for a log of that name.
func nextKey(ctx context.Context, path, origin string) (*audit.Signer, error) {
	private, err := cli.ReadInput(ctx, path, cli.MaxSecretInput)
	if errors.Is(err, fs.ErrNotExist) {
		return components.NewSigner(path, origin)
	}
	if err != nil {
		return nil, cli.Invalid(fmt.Errorf("--next %w", err))
	}
	signer, err := audit.ParseSigner(string(private))
	if err != nil {
		return nil, cli.Invalid(fmt.Errorf("%s: %w", path, err))
	}
	if signer.Key().Origin() != origin {
		return nil, cli.Invalid(fmt.Errorf("%s is a key of the log %s, and not of %s", path, signer.Key().Origin(), origin))
	}
	return signer, nil
}

// recordAdmin records one event as a writer of its own.
func recordAdmin(ctx context.Context, cfg *config.Config, e *audit.Event) error {
	url, done, err := auditdb.URL(ctx, cfg, auditdb.Roles["writer"])
	if err != nil {
		return err
	}
	defer done()
	log, err := auditwriter.Open(ctx, auditwriter.Config{
		URL: url, Version: cli.Version(), Signer: func() (*audit.Signer, error) { return components.Signer(cfg) },
	})
	if err != nil {
		return err
	}
	err = log.Record(ctx, e)
	return errors.Join(err, log.Close(ctx))
}
