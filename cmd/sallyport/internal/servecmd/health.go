package servecmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// healthPatience bounds the whole question: a supervisor asks again soon.
const healthPatience = 5 * time.Second

// NewHealth makes `sallyport health`.
func NewHealth() *cobra.Command {
	c := &cobra.Command{
		Use:   "health",
		Short: "Check whether a running instance is alive, or ready",
		Long: `Ask the admin listener of a running instance on this machine, and end with status
0 only if it answers that all is well: for containers and supervisors that run a
program to find out.

Without --ready the question is whether the process answers at all. With --ready
it is whether the instance can let anything out, and what is wrong is printed: a
database that is unavailable makes it unready, and a restart would not help. What
is wrong and leaves it ready, such as sealing that fails, is printed as a warning.`,
		Args: cli.NoArguments,
	}
	path := cli.AddConfigFlag(c)
	base := c.Flags().String("url", "", "the admin listener's `URL`, such as http://127.0.0.1:9128 (default: admin.address of the configuration)")
	ready := c.Flags().Bool("ready", false, "ask whether it is ready")
	c.RunE = func(c *cobra.Command, _ []string) error {
		where, err := healthURL(*base, *path)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), healthPatience)
		defer cancel()
		if *ready {
			return checkReady(ctx, where.JoinPath("readyz"), c.OutOrStdout())
		}
		return checkHealth(ctx, where.JoinPath("healthz"), c.OutOrStdout())
	}
	return c
}

// healthURL is the admin listener's.
func healthURL(base, path string) (*url.URL, error) {
	if base != "" {
		u, err := url.Parse(base)
		if err != nil || u.Scheme != "http" || u.Host == "" {
			return nil, cli.Invalid(fmt.Errorf("--url %s: want http://address:port", base))
		}
		return u, nil
	}
	cfg, name, err := cli.LoadConfig(path)
	if err != nil {
		return nil, err
	}
	if cfg.Admin.Address == "" {
		return nil, cli.Invalid(fmt.Errorf("%s has no admin.address to ask at", name))
	}
	host, port, err := net.SplitHostPort(cfg.Admin.Address)
	if err != nil {
		return nil, cli.Invalid(err)
	}
	// Every address of the machine is also the one on which we are.
	switch address, err := netip.ParseAddr(host); {
	case host == "", err == nil && address == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case err == nil && address.IsUnspecified():
		host = "::1"
	}
	return &url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}, nil
}

func checkHealth(ctx context.Context, u *url.URL, out io.Writer) error {
	status, _, err := get(ctx, u)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s answered %d", u, status)
	}
	_, err = fmt.Fprintln(out, "up")
	return err
}

func checkReady(ctx context.Context, u *url.URL, out io.Writer) error {
	status, body, err := get(ctx, u)
	if err != nil {
		return err
	}
	var answer struct {
		Ready    bool              `json:"ready"`
		Checks   map[string]string `json:"checks"`
		Warnings map[string]string `json:"warnings"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("%s answered %d, and not as the admin listener does: give the address of admin.address, which is not one of listeners", u, status)
	}
	if status == http.StatusOK && answer.Ready {
		lines := []string{"ready"}
		for _, name := range slices.Sorted(maps.Keys(answer.Warnings)) {
			lines = append(lines, "warning: "+name+": "+strings.ReplaceAll(answer.Warnings[name], "\n", "; "))
		}
		_, err := fmt.Fprintln(out, strings.Join(lines, "\n"))
		return err
	}
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(answer.Checks)) {
		if answer.Checks[name] != "ok" {
			wrong = append(wrong, name+": "+answer.Checks[name])
		}
	}
	return fmt.Errorf("not ready\n%s", strings.Join(wrong, "\n"))
}

// ask goes to the instance itself, whatever proxy the environment names.
func get(ctx context.Context, u *url.URL) (int, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, nil, err
	}
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("an instance of sallyport does not redirect")
		},
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil, fmt.Errorf("ask the instance: %w; is it running, and is this its admin.address?", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}
