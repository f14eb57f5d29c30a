package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/step/toolconfig"
)

// toolFlags select and configure tools.
type toolFlags struct {
	only, without, noProxy []string
	tools                  []toolconfig.Tool
}

func (t *toolFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&t.only, "only", nil, "configure only these `TOOLS`, separated by commas: "+strings.Join(toolconfig.Names(), ", "))
	f.StringArrayVar(&t.without, "without", nil, "do not configure these `TOOLS`")
	f.StringArrayVar(&t.noProxy, "no-proxy", nil, "`HOSTS` that tools reach without the forwarder, such as service containers")
}

func (t *toolFlags) complete() (err error) {
	if t.tools, err = toolconfig.Select(splitNames(t.only), splitNames(t.without)); err != nil {
		return invalid(err)
	}
	t.noProxy = splitNames(t.noProxy)
	return nil
}
