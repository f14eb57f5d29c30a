package webhookcmd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

type addOptions struct {
	config, kind, repository, url                   string
	events, actions, forwardTo, resources, networks []string
	endpoints                                       []string // NAME=URL or NAME=agent
	networksFrom, secretFile, tokenFile, api        string

	newEndpoints []newEndpoint
}

// newEndpoint is an endpoint that the command adds to the configuration.
type newEndpoint struct{ name, url string } // url is empty for an agent

func newAdd() *cobra.Command {
	o := addOptions{}
	c := &cobra.Command{
		Use:   "add NAME --repository WORKSPACE/NAME --url https://HOST[:PORT] {--action ACTION | --forward-to NAME | --endpoint NAME=URL | --refresh-resource NAME}",
		Short: "Create a receiver: secret, path, configuration, and the webhook in Bitbucket",
		Long: `Create a receiver of webhook deliveries. The command generates a secret and a path
that cannot be guessed, and prints the receiver's configuration. It writes two files
that only their owner can read: the current and the previous secret. The previous one
is an unused random value, so that "webhook rotate" needs no change of the
configuration.

With --token-file, the command creates the webhook through Bitbucket Cloud's REST API.
The token needs the scope webhook, and that of each event: repository or pullrequest.
Otherwise the command prints every field to enter in Bitbucket.

--forward-to and --refresh-resource name endpoints and resources of the configuration.
--endpoint adds an endpoint to the printed section and forwards to it: NAME=URL, or
NAME=agent for one that an agent serves. An endpoint in a private network also needs
allow_networks: add it to the printed section.

Add the printed section to the configuration and restart the server; then test the
receiver with "sallyport webhook test NAME".`,
		Args: oneArgument("the name of the new receiver"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.check(c, args[0]); err != nil {
				return cli.Invalid(err)
			}
			return o.run(c, args[0])
		},
	}
	f := c.Flags()
	f.StringVarP(&o.config, "config", "c", "", "configuration `FILE`, which names the API; the secrets are written to its folder (default: the first file in the usual places, if any)")
	f.StringVar(&o.kind, "kind", "cloud", "the `PRODUCT` that delivers: cloud or data_center")
	f.StringVar(&o.repository, "repository", "", "the repository whose events are delivered: `WORKSPACE/NAME`, on Data Center PROJECT/NAME")
	f.StringVar(&o.url, "url", "", "scheme, host and port by which Bitbucket reaches the webhook listener: `URL`")
	f.StringSliceVar(&o.events, "event", nil, "`EVENT` to deliver; repeatable (default: those of the actions, otherwise pushes and merges)")
	f.StringSliceVar(&o.actions, "action", nil, "`ACTION` of each delivery: refresh_policy or refresh_names; repeatable")
	f.StringSliceVar(&o.forwardTo, "forward-to", nil, "`ENDPOINT` of the configuration that receives each delivery; repeatable")
	f.StringSliceVar(&o.resources, "refresh-resource", nil, "`RESOURCE` of the configuration that matching deliveries refresh; repeatable")
	f.StringArrayVar(&o.endpoints, "endpoint", nil, "`NAME=URL` or NAME=agent of a new endpoint that receives each delivery; repeatable")
	f.StringSliceVar(&o.networks, "network", nil, "`NETWORK` that deliveries may come from, such as 192.0.2.0/24; repeatable (default: any)")
	f.StringVar(&o.networksFrom, "networks-from", "", "`SOURCE` of the networks that deliveries may come from: atlassian")
	f.StringVar(&o.secretFile, "secret-file", "", "`FILE` for the secret, which must not exist (default: webhook-NAME.secret beside the configuration)")
	f.StringVar(&o.tokenFile, "token-file", "", "`FILE` with an access token: create the webhook through the API")
	f.StringVar(&o.api, "api", "", "`URL` of the REST API (default: that of the configuration, otherwise "+defaultAPI+")")
	return c
}

var receiverName = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`)

// check checks the flags and fills in their defaults.
func (o *addOptions) check(c *cobra.Command, name string) error {
	see := "\nsee: " + c.CommandPath() + " --help"
	if !receiverName.MatchString(name) {
		return fmt.Errorf("the name %q is not a receiver's: use lower-case letters, digits, - and _, at most 63", name)
	}
	if err := cli.OneOf("--kind", o.kind, []string{"cloud", "data_center"}); err != nil {
		return err
	}
	workspace, slug, ok := strings.Cut(o.repository, "/")
	if !ok || workspace == "" || slug == "" || strings.ContainsAny(o.repository, " \"'\\\n") || strings.Contains(slug, "/") {
		return fmt.Errorf("--repository %q is not of the form WORKSPACE/NAME%s", o.repository, see)
	}
	u, err := bitbucketapi.ParseURL(strings.TrimSuffix(o.url, "/"))
	if err != nil || u.Path != "" {
		return fmt.Errorf("--url %q is not https:// with a host and, if needed, a port: Bitbucket sends the deliveries there%s", o.url, see)
	}
	o.url = strings.TrimSuffix(o.url, "/")
	if err := o.checkEndpoints(); err != nil {
		return err
	}
	if err := o.checkNetworks(); err != nil {
		return err
	}
	if len(o.actions)+len(o.forwardTo)+len(o.resources) == 0 {
		return fmt.Errorf("name an --action, --forward-to, --endpoint or --refresh-resource: a receiver without any of them only records deliveries%s", see)
	}
	for _, a := range o.actions {
		if err := o.checkAction(a); err != nil {
			return err
		}
	}
	return o.checkEvents()
}

func (o *addOptions) run(c *cobra.Command, name string) error {
	var cfg *config.Config
	file, err := cli.FindConfig(o.config)
	if err == nil {
		cfg, file, err = cli.LoadConfig(file)
		if err != nil {
			return err
		}
	}
	if cfg != nil && cfg.Webhooks != nil && slices.ContainsFunc(cfg.Webhooks.Receivers, func(r config.WebhookReceiver) bool { return r.Name == name }) {
		return cli.Invalid(fmt.Errorf("%s has a receiver %s: choose another name, or change its secret with `sallyport webhook rotate %s`", file, name, name))
	}
	if err := o.checkNames(c.ErrOrStderr(), cfg, file); err != nil {
		return cli.Invalid(err)
	}
	secretFile := o.secretFile
	if secretFile == "" {
		secretFile = filepath.Join(filepath.Dir(file), "webhook-"+name+".secret")
	}
	if secretFile, err = filepath.Abs(secretFile); err != nil {
		return err
	}
	r := receiver{
		Name: name, Kind: o.kind, Path: "/hooks/" + name + "-" + pathSuffix(), Secret: secretFile,
		Previous:   strings.TrimSuffix(secretFile, ".secret") + ".previous-secret",
		Repository: o.repository, Events: o.events, Actions: o.actions, ForwardTo: o.forwardTo, Resources: o.resources, Endpoints: o.newEndpoints,
		Networks: o.networks, NetworksFrom: o.networksFrom,
		Listener: cfg == nil || cfg.Webhooks == nil, URL: o.url,
	}
	var api *hookAPI
	if o.tokenFile != "" {
		if o.productKind() == webhook.DataCenter {
			return cli.Invalid(errors.New("--token-file works with Bitbucket Cloud only: on Data Center, enter the fields that the command prints without it"))
		}
		if api, err = newHookAPI(cfg, o.api, o.tokenFile, o.repository); err != nil {
			return cli.Invalid(err)
		}
	}
	return r.make(c.Context(), c, api)
}

// make writes the secrets, creates the webhook if there is an API, and prints the remaining
// steps. If it fails, it removes the files.
func (r receiver) make(ctx context.Context, c *cobra.Command, api *hookAPI) error {
	secret := newSecret()
	if err := createSecret(r.Secret, secret); err != nil {
		return err
	}
	if err := createSecret(r.Previous, unusedSecret()); err != nil {
		return errors.Join(err, os.Remove(r.Secret))
	}
	if api == nil {
		r.printFields(c.ErrOrStderr())
		return r.printSection(c.OutOrStdout())
	}
	active := true
	h, err := api.create(ctx, hookFields{Description: "Sallyport receiver " + r.Name, URL: r.URL + r.Path, Active: &active, Secret: secret, Events: r.Events})
	if err != nil {
		return errors.Join(err, os.Remove(r.Secret), os.Remove(r.Previous))
	}
	if !h.SecretSet || !uuid.IsCanonical(strings.Trim(h.UUID, "{}")) {
		return fmt.Errorf("create the webhook: Bitbucket's response does not confirm the secret: check the repository's webhooks, and delete that of %s", redactPath(r.URL+r.Path))
	}
	fmt.Fprintf(c.ErrOrStderr(), "Bitbucket delivers %s of %s to %s as webhook %s.\n%s\n\n",
		strings.Join(r.Events, ", "), r.Repository, r.URL+r.Path, h.UUID, r.nextStep())
	return r.printSection(c.OutOrStdout())
}

// redactPath shortens the path of a receiver's URL.
func redactPath(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the URL"
	}
	return u.Scheme + "://" + u.Host + u.Path[:min(len(u.Path), 20)] + "…"
}
