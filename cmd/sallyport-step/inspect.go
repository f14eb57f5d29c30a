package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/doctor"
	"github.com/sallyport/sallyport/step/forwarder"
	"github.com/sallyport/sallyport/step/netcheck"
	"github.com/sallyport/sallyport/step/query"
	"github.com/sallyport/sallyport/step/report"
	"github.com/sallyport/sallyport/step/session"
	"github.com/sallyport/sallyport/step/toolconfig"
)

// format is the value of --format.
type format struct{ value string }

func (f *format) String() string { return f.value }
func (f *format) Type() string   { return "text|json" }

func (f *format) Set(given string) error {
	if given != "text" && given != "json" {
		if near := nearest.Of(given, []string{"text", "json"}); near != "" {
			return fmt.Errorf("%q is not known: did you mean %s?", given, near)
		}
		return fmt.Errorf("%q is not known: want text or json", given)
	}
	f.value = given
	return nil
}

// addFormat adds --format to a command that prints text, or JSON for programs.
func addFormat(c *cobra.Command) (asJSON func() bool) {
	f := &format{"text"}
	c.Flags().Var(f, "format", "print text, or JSON for programs")
	return func() bool { return f.value == "json" }
}

// inspected is the session of the command, if one runs, and the options that apply: those
// of the command line, or those of the session.
type inspected struct {
	options
	path   string
	status *session.Status // nil: no forwarder is running
}

// inspect finds the running forwarder, and takes from it what the command line does not
// give.
func inspect(ctx context.Context, o options) (*inspected, error) {
	path, err := session.Path(os.Getenv)
	if err != nil {
		return nil, err
	}
	in := &inspected{options: o, path: path}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var status session.Status
	err = session.Call(ctx, path, session.Request{Operation: session.OperationStatus}, &status)
	switch {
	case err == nil:
		in.status = &status
	case !errors.Is(err, session.ErrNotRunning):
		return nil, err
	}
	if len(in.Proxies) == 0 && in.status != nil {
		in.Proxies, in.CAFile, in.Plaintext = status.Proxies, status.CAFile, status.Plaintext
		if in.TokenFile == "" && in.TokenCommand == "" {
			in.TokenFile = status.TokenFile
		}
	}
	if len(in.Proxies) > 0 {
		return in, in.complete()
	}
	return in, nil
}

// queryClient returns a client for the proxies of the options.
func (in *inspected) queryClient() (*query.Client, error) {
	source, err := openToken(in.options, os.Stderr)
	if err != nil {
		return nil, err
	}
	c := query.Config{CAFile: in.CAFile, Token: source}
	for _, url := range in.Proxies {
		proxy, err := query.ParseProxy(url, in.Plaintext)
		if err != nil {
			return nil, invalid(err)
		}
		c.Proxies = append(c.Proxies, proxy)
	}
	return query.New(c)
}

func newDoctor() *cobra.Command {
	o := &options{}
	var targets []string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this step can use Sallyport, one line for each check",
		Long: `Check whether this step can use Sallyport: the proxy and its certificate, the token, the
variables and files of tools, and Bitbucket's own proxy. With --to, Sallyport evaluates the
policy for a target, without a connection; the audit log records the evaluation. Without
--proxy, doctor checks the proxy of the running forwarder.`,
		Args: noArguments,
	}
	o.addUpstream(c)
	c.Flags().StringArrayVar(&targets, "to", nil, "target `HOST:PORT` that the step needs")
	asJSON := addFormat(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		in, err := inspect(c.Context(), *o)
		if err != nil {
			return err
		}
		if len(in.Proxies) == 0 {
			return invalid(errors.New("doctor: no forwarder is running: give --proxy https://HOST:PORT"))
		}
		d := in.doctorConfig()
		d.Targets, d.JSON = targets, asJSON()
		return reported(doctor.Run(c.Context(), d, c.OutOrStdout()), doctor.ErrFailed)
	}
	return c
}

// doctorConfig describes this step. It is read before the token is removed from this
// process.
func (in *inspected) doctorConfig() doctor.Config {
	d := doctor.Config{
		Proxies: in.Proxies, Plaintext: in.Plaintext, CAFile: in.CAFile,
		TokenOrigin: in.tokenSource(), Environ: os.Environ(), Home: os.Getenv("HOME"),
	}
	if in.fromEnvironment() {
		d.TokenName = in.TokenVariable
	}
	if in.status != nil {
		d.Forwarder = in.status.Forwarder
		settings := toolconfig.NewSettings(in.status.Forwarder)
		for _, v := range toolconfig.Variables(toolconfig.Tools[:1], settings) { // variables
			d.Expected = append(d.Expected, doctor.Variable(v))
		}
	}
	if source, err := openToken(in.options, os.Stderr); err == nil {
		d.Token = source
	} else if in.status != nil {
		d.Step = func(ctx context.Context) (*stepapi.Step, error) { return askStep(ctx, in.path) }
		d.Evaluate = func(ctx context.Context, targets []string) (*stepapi.Evaluations, error) {
			return askTargets(ctx, in.path, targets)
		}
	}
	return d
}

// reported returns an error without a text for one that the command has printed.
func reported(err, printed error) error {
	if errors.Is(err, printed) {
		return statusError{status: exitFailed}
	}
	return err
}

func newReport() *cobra.Command {
	o := &options{}
	var insights bool
	var bitbucketProxy string
	c := &cobra.Command{
		Use:   "report",
		Short: "Print what this step requested, what was denied, and the rules to ask for",
		Args:  noArguments,
	}
	o.addUpstream(c)
	c.Flags().BoolVar(&insights, "code-insights", false, "also publish the report with the commit, through Bitbucket's proxy in the step")
	c.Flags().StringVar(&bitbucketProxy, "bitbucket-proxy", doctor.BitbucketProxy, "`ADDRESS` of Bitbucket's proxy; in a pipe host.docker.internal:29418")
	asJSON := addFormat(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		in, err := inspect(c.Context(), *o)
		if err != nil {
			return err
		}
		r, err := in.reportConfig(c.Context(), len(o.Proxies) > 0)
		if err != nil {
			return err
		}
		r.JSON = asJSON()
		if insights {
			if r.Insights, err = report.FromEnvironment(os.Getenv); err != nil {
				return invalid(err)
			}
			r.Insights.Proxy = bitbucketProxy
		}
		return report.Run(c.Context(), r, c.OutOrStdout())
	}
	return c
}

// reportConfig names the sources: the running forwarder, which asks the proxy, or the
// proxies of the command line.
func (in *inspected) reportConfig(ctx context.Context, ownProxies bool) (r report.Config, err error) {
	if in.status != nil {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		r.Local = &forwarder.Report{}
		if err := session.Call(ctx, in.path, session.Request{Operation: session.OperationReport}, r.Local); err != nil {
			return r, err
		}
		r.Server = func(ctx context.Context) (*stepapi.Step, error) { return askStep(ctx, in.path) }
	}
	if ownProxies {
		client, err := in.queryClient()
		if err != nil {
			return r, err
		}
		r.Server = client.Step
	}
	return r, nil
}

func newCheckNetwork() *cobra.Command {
	o := &options{}
	n := netcheck.Config{}
	var noRecord bool
	c := &cobra.Command{
		Use:   "check-network",
		Short: "Check that this step cannot reach the network around the proxy",
		Long: `Check that this step cannot reach the network around the proxy. Only the given addresses
are tested, and no proxy variable is used. The result becomes an audit event of Sallyport.`,
		Args: noArguments,
	}
	o.addUpstream(c)
	f := c.Flags()
	f.StringSliceVar(&n.TCP, "tcp", nil, "`ADDRESS` that must be blocked over TCP; port 443 by default")
	f.StringSliceVar(&n.UDP, "udp", nil, "`ADDRESS` that must be blocked over UDP (QUIC); port 443 by default")
	f.StringSliceVar(&n.DNS, "dns", nil, "`ADDRESS` of a name server that must be blocked; port 53 by default")
	f.StringSliceVar(&n.IPv6, "ipv6", nil, "IPv6 `ADDRESS` that must be blocked over TCP; port 443 by default")
	f.StringSliceVar(&n.Metadata, "metadata", nil, "`ADDRESS` of a cloud's metadata service that must be blocked; port 80 by default")
	f.DurationVar(&n.Timeout, "timeout", 3*time.Second, "of one test; all run at the same time")
	f.BoolVar(&noRecord, "no-record", false, "only print the result: Sallyport does not record it")
	asJSON := addFormat(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		n.JSON = asJSON()
		if err := n.Validate(); err != nil {
			return invalid(err)
		}
		if !noRecord {
			in, err := inspect(c.Context(), *o)
			if err != nil {
				return err
			}
			if n.Send, err = in.networkRecorder(len(o.Proxies) > 0); err != nil {
				return err
			}
		}
		return reported(netcheck.Run(c.Context(), n, c.OutOrStdout()), netcheck.ErrNotEnforced)
	}
	return c
}

// networkRecorder returns what records the result: the running forwarder, or the proxies
// of the command line.
func (in *inspected) networkRecorder(ownProxies bool) (func(context.Context, *stepapi.NetworkCheck) error, error) {
	switch {
	case ownProxies:
		client, err := in.queryClient()
		if err != nil {
			return nil, err
		}
		return client.SendNetworkCheck, nil
	case in.status != nil:
		return func(ctx context.Context, check *stepapi.NetworkCheck) error {
			return session.Call(ctx, in.path, session.Request{Operation: session.OperationNetworkCheck, NetworkCheck: check}, nil)
		}, nil
	}
	return nil, invalid(errors.New("check-network: no forwarder is running to record the result: give --proxy https://HOST:PORT, or --no-record"))
}
