package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/step/portforward"
	"github.com/sallyport/sallyport/step/session"
)

func newForward() *cobra.Command {
	o := &options{}
	c := &cobra.Command{
		Use:   "forward [ADDRESS:]PORT:HOST:PORT",
		Short: "Forward a local port to a target, for clients without proxy support",
		Long: `Forward a local port to a target, for clients without proxy support:

  sallyport-step forward 5432:db.example:5432
  psql "host=db.example hostaddr=127.0.0.1 sslmode=verify-full"

The forwarder of start opens the port, and forward returns when it is open. With --proxy,
forward opens it itself and runs until a signal. The rule of the target needs protocol
"any" unless each connection begins with TLS. Port 0 is any free port; forward prints the
address.`,
		Args: oneTarget,
		RunE: func(c *cobra.Command, args []string) error {
			return forward(c.Context(), *o, args[0], c.OutOrStdout())
		},
	}
	o.addUpstream(c)
	c.Flags().Var(&uids{&o.AllowUIDs}, "allow-uid", "with --proxy: further user `ID` that may use the port")
	return c
}

func forward(ctx context.Context, o options, text string, out io.Writer) error {
	if _, err := portforward.ParseSpec(text); err != nil {
		return invalid(err)
	}
	if len(o.Proxies) == 0 {
		path, err := session.Path(os.Getenv)
		if err != nil {
			return err
		}
		var address netip.AddrPort
		err = session.Call(ctx, path, session.Request{Operation: session.OperationForward, Forward: text}, &address)
		if errors.Is(err, session.ErrNotRunning) {
			return fmt.Errorf("%w, or give --proxy", err)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, address)
		return err
	}
	if err := o.complete(); err != nil {
		return err
	}
	o.Listen, o.Forwards = "127.0.0.1:0", nil
	e, err := startEngine(ctx, o, os.Stderr)
	if err != nil {
		return err
	}
	defer e.close()
	address, err := e.forward(text)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, address); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
