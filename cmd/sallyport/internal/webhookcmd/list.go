package webhookcmd

import (
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/printable"
)

// receiverRow is one receiver of `webhook list`.
type receiverRow struct {
	Name          string    `json:"name"`
	Kind          string    `json:"kind"`
	Path          string    `json:"path"`
	Repositories  []string  `json:"repositories"`
	Events        []string  `json:"events"`
	Actions       []string  `json:"actions"`
	SecretChanged time.Time `json:"secret_changed,omitzero"` // when its file was written
	Rotating      bool      `json:"rotating"`                // two secrets are valid
}

func newList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the receivers of the configuration, with the age of their secrets",
		Long: `List the receivers of the configuration. SECRET is the age of the secret's file; change
a secret with "sallyport webhook rotate" after 90 days.`,
		Args: cli.NoArguments,
	}
	path, asJSON := cli.AddConfigFlag(c), cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, _, err := cli.LoadConfig(*path)
		if err != nil {
			return err
		}
		rows := []receiverRow{}
		if cfg.Webhooks != nil {
			for i := range cfg.Webhooks.Receivers {
				rows = append(rows, rowOf(&cfg.Webhooks.Receivers[i]))
			}
		}
		if asJSON() {
			return cli.PrintJSON(c.OutOrStdout(), rows)
		}
		return cli.PrintTable(c.OutOrStdout(), "NAME\tKIND\tPATH\tREPOSITORIES\tEVENTS\tACTIONS\tSECRET", func(row func(string, ...any)) {
			for _, r := range rows {
				row("%s\t%s\t%s\t%s\t%s\t%s\t%s", r.Name, r.Kind, r.Path, joined(r.Repositories), joined(r.Events), strings.Join(r.Actions, ","), r.secretText(time.Now()))
			}
		})
	}
	return c
}

func rowOf(r *config.WebhookReceiver) receiverRow {
	row := receiverRow{Name: r.Name, Kind: r.Kind.String(), Path: r.Path, Repositories: r.Repositories, Events: r.Events}
	for _, a := range r.Actions {
		row.Actions = append(row.Actions, string(a))
	}
	for _, e := range r.ForwardTo {
		row.Actions = append(row.Actions, "forward:"+e)
	}
	for _, name := range r.RefreshResources {
		row.Actions = append(row.Actions, "refresh_resource:"+name)
	}
	if info, err := os.Stat(r.Secret.File()); err == nil {
		row.SecretChanged = info.ModTime().UTC()
	}
	if r.Previous.File() != "" {
		row.Rotating, _ = unfinished(r.Secret, r.Previous)
	}
	return row
}

func (r receiverRow) secretText(now time.Time) string {
	switch {
	case r.SecretChanged.IsZero():
		return "not readable"
	case r.Rotating:
		return printable.Count(int(now.Sub(r.SecretChanged).Hours()/24), "day") + ", rotating"
	}
	return printable.Count(int(now.Sub(r.SecretChanged).Hours()/24), "day")
}

// joined is a list, or "any" for one that restricts nothing.
func joined(list []string) string {
	if len(list) == 0 {
		return "any"
	}
	return strings.Join(list, ",")
}
