package webhookcmd

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/webhook"
)

type rotateOptions struct {
	repository, tokenFile, api string
	drop, endpoint             bool
}

func newRotate() *cobra.Command {
	o := rotateOptions{}
	c := &cobra.Command{
		Use:   "rotate NAME [--endpoint] [--token-file FILE | --drop]",
		Short: "Rotate the secret of a receiver, or with --endpoint that of an endpoint; no URL changes",
		Long: `Give a receiver a new secret. The previous one stays valid until --drop, so that no
delivery is refused meanwhile. The URL does not change, and the running server reads
both files by itself.

With --token-file, the command sets the new secret in Bitbucket Cloud too. Otherwise
enter it there. Run the command again with --drop once deliveries are signed with the
new secret: "sallyport webhook test NAME" shows that the receiver accepts it.

With --endpoint, NAME is an endpoint with sign.previous_secret_file. Deliveries to it then
have a signature with each of the two secrets (Standard Webhooks), so that the endpoint
can change its secret at any time. --drop ends that.`,
		Args: oneArgument("the name of a receiver, or with --endpoint that of an endpoint"),
	}
	path := cli.AddConfigFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.endpoint {
			return o.runEndpoint(c, *path, args[0])
		}
		cfg, r, err := loadReceiver(*path, args[0], ", or give --endpoint")
		if err != nil {
			return err
		}
		return o.run(c, cfg, r)
	}
	f := c.Flags()
	f.BoolVar(&o.drop, "drop", false, "end the rotation: the previous secret is not valid any more")
	f.BoolVar(&o.endpoint, "endpoint", false, "NAME is an endpoint, whose own secret is rotated")
	f.StringVar(&o.repository, "repository", "", "the repository that has the webhook: `WORKSPACE/NAME` (default: the receiver's first)")
	f.StringVar(&o.tokenFile, "token-file", "", "`FILE` with an access token: set the secret through the API")
	f.StringVar(&o.api, "api", "", "`URL` of the REST API (default: that of the configuration, otherwise "+defaultAPI+")")
	return c
}

func (o *rotateOptions) run(c *cobra.Command, cfg *config.Config, r *config.WebhookReceiver) error {
	current, previous := r.Secret.File(), r.Previous.File()
	switch {
	case o.drop && o.tokenFile != "":
		return cli.Invalid(errors.New("--drop changes nothing in Bitbucket: leave --token-file out"))
	case current == "" || previous == "":
		return cli.Invalid(fmt.Errorf("the receiver %s has no previous_secret_file: two secrets have to be valid during a rotation: write a line that begins with %s into a file, name the file there, and restart the server", r.Name, webhook.UnusedSecretPrefix))
	}
	open, err := unfinished(r.Secret, r.Previous)
	if err != nil {
		return err
	}
	if o.drop {
		return dropPrevious(c, r.Name, r.Previous)
	}
	if open && o.tokenFile == "" {
		return fmt.Errorf("the rotation of %s has not ended: two secrets are valid: run `sallyport webhook rotate %s --drop` once Bitbucket signs with the secret in %s", r.Name, r.Name, current)
	}
	var api *hookAPI
	if o.tokenFile != "" {
		if api, err = o.openAPI(cfg, r); err != nil {
			return cli.Invalid(err)
		}
	}
	if !open {
		if err := exchange(r.Secret, r.Previous, newSecret()); err != nil {
			return fmt.Errorf("rotate the secret: %w", err)
		}
	}
	if api == nil {
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s: two secrets are valid. Enter the line in %s as the webhook's secret in Bitbucket, and then run:\n  sallyport webhook rotate %s --drop\n", r.Name, current, r.Name)
		return err
	}
	return o.set(c, api, r)
}

func dropPrevious(c *cobra.Command, name string, previous config.Secret) error {
	if err := replaceSecret(previous.File(), unusedSecret()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s: the previous secret is not valid any more.\n", name)
	return err
}

// exchange makes the current secret the previous one, and writes a new one.
func exchange(current, previous config.Secret, next string) error {
	old, err := current.Read()
	if err == nil {
		err = replaceSecret(previous.File(), old)
	}
	if err == nil {
		err = replaceSecret(current.File(), next)
	}
	return err
}

// runEndpoint rotates the secret with which deliveries to an endpoint are signed.
func (o *rotateOptions) runEndpoint(c *cobra.Command, path, name string) error {
	if o.tokenFile != "" || o.repository != "" || o.api != "" {
		return cli.Invalid(errors.New("--endpoint changes nothing in Bitbucket: leave --token-file, --repository and --api out"))
	}
	e, err := loadEndpoint(path, name)
	if err != nil {
		return err
	}
	if e.Sign == nil || e.Sign.Secret.File() == "" || e.Sign.Previous.File() == "" {
		return cli.Invalid(fmt.Errorf("the endpoint %s has no sign.previous_secret_file: deliveries need two signatures during a rotation: write a line that begins with %s into a file, name the file there, and restart the server", name, webhook.UnusedSecretPrefix))
	}
	if o.drop {
		return dropPrevious(c, name, e.Sign.Previous)
	}
	open, err := unfinished(e.Sign.Secret, e.Sign.Previous)
	if err != nil {
		return err
	}
	if open {
		return fmt.Errorf("the rotation of %s has not ended: run `sallyport webhook rotate %s --endpoint --drop` once the endpoint verifies with the secret in %s", name, name, e.Sign.Secret.File())
	}
	if err := exchange(e.Sign.Secret, e.Sign.Previous, newStandardSecret()); err != nil {
		return fmt.Errorf("rotate the secret: %w", err)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: deliveries are signed with two secrets. Enter the line in %s at the endpoint, and then run:\n  sallyport webhook rotate %s --endpoint --drop\n", name, e.Sign.Secret.File(), name)
	return err
}

func (o *rotateOptions) openAPI(cfg *config.Config, r *config.WebhookReceiver) (*hookAPI, error) {
	if r.Kind == webhook.DataCenter {
		return nil, errors.New("--token-file works with Bitbucket Cloud only")
	}
	repository := o.repository
	if repository == "" && len(r.Repositories) > 0 {
		repository = r.Repositories[0]
	}
	if repository == "" {
		return nil, errors.New("name the repository that has the webhook with --repository")
	}
	return newHookAPI(cfg, o.api, o.tokenFile, repository)
}

// set gives the webhook in Bitbucket the current secret.
func (o *rotateOptions) set(c *cobra.Command, api *hookAPI, r *config.WebhookReceiver) error {
	secret, err := r.Secret.Read()
	if err != nil {
		return err
	}
	h, err := api.findByPath(c.Context(), r.Path)
	if err == nil {
		err = api.setSecret(c.Context(), h, secret)
	}
	if err != nil {
		return fmt.Errorf("%w\nboth secrets stay valid: run the command again, or enter the line in %s in Bitbucket", err, r.Secret.File())
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: Bitbucket signs with the new secret. Deliveries in flight may have the previous one; after a minute, run:\n  sallyport webhook rotate %s --drop\n", r.Name, r.Name)
	return err
}
