package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/step/portforward"
	"github.com/sallyport/sallyport/step/session"
	"github.com/sallyport/sallyport/step/upstream"
)

func newConnect() *cobra.Command {
	o := &options{}
	c := &cobra.Command{
		Use:   "connect HOST:PORT",
		Short: "Connect standard input and output to a target, as a ProxyCommand of ssh",
		Long: `Connect standard input and output to a target, as a ProxyCommand of ssh:

  ssh -o ProxyCommand="sallyport-step connect %h:%p" git@host.example

The connection is made by the forwarder of start, or, with --proxy, without a forwarder.
The rule of the target needs protocol "any" unless the connection begins with TLS.`,
		Args: oneTarget,
		RunE: func(c *cobra.Command, args []string) error {
			return connect(c.Context(), *o, args[0], c.InOrStdin(), c.OutOrStdout())
		},
	}
	o.addUpstream(c)
	return c
}

func oneTarget(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return invalid(fmt.Errorf("%s: want one argument\nsee: %s --help", c.CommandPath(), c.CommandPath()))
	}
	return nil
}

func connect(ctx context.Context, o options, target string, in io.Reader, out io.Writer) error {
	if err := portforward.CheckTarget(target); err != nil {
		return invalid(fmt.Errorf("connect %q: %w", target, err))
	}
	stream, err := openTarget(ctx, o, target)
	if refused, ok := errors.AsType[refusedError](err); ok {
		fmt.Fprint(os.Stderr, refused.line)
		return statusError{status: exitFailed}
	}
	if err != nil {
		return fmt.Errorf("connect %s: %w", target, err)
	}
	portforward.Relay(ctx, stream, in, out, func() error { return nil })
	return nil
}

// openTarget connects through the proxies of the options, or through the forwarder.
func openTarget(ctx context.Context, o options, target string) (portforward.Stream, error) {
	if len(o.Proxies) > 0 {
		if err := o.complete(); err != nil {
			return nil, err
		}
		client, err := openUpstream(o, os.Stderr)
		if err != nil {
			return nil, err
		}
		return connectTarget(ctx, client, target)
	}
	path, err := session.Path(os.Getenv)
	if err != nil {
		return nil, err
	}
	var status session.Status
	if err := session.Call(ctx, path, session.Request{Operation: session.OperationStatus}, &status); err != nil {
		if errors.Is(err, session.ErrNotRunning) {
			err = fmt.Errorf("%w, or give --proxy", err)
		}
		return nil, err
	}
	return connectForwarder(ctx, status.Forwarder.String(), target)
}

// connectForwarder opens a tunnel through the forwarder, which prints the refusal itself.
func connectForwarder(ctx context.Context, address, target string) (portforward.Stream, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to the forwarder: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n"); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect to the forwarder: %w", err)
	}
	r := bufio.NewReader(conn)
	response, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("read the response of the forwarder: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		_ = conn.Close()
		return nil, refusedError{refusedBriefly(target, upstream.ParseRefusal(response.StatusCode, response.Header, string(text)))}
	}
	return &bufferedStream{conn.(*net.TCPConn), r}, nil
}

// refusedBriefly is the line about a refusal whose cause and remedy the forwarder prints: at
// the first of equal requests, on the standard error of start or in its log.
func refusedBriefly(target string, r *upstream.Refusal) string {
	line := fmt.Sprintf("sallyport-step: connect %s: denied: %s", target, r.Reason)
	if r.DecisionID != "" {
		line += ", decision " + r.DecisionID
	}
	return singleLine(line+": the forwarder has printed the cause") + "\n"
}

// bufferedStream is a connection whose first bytes came together with the response.
type bufferedStream struct {
	*net.TCPConn
	r *bufio.Reader
}

func (s *bufferedStream) Read(p []byte) (int, error) { return s.r.Read(p) }

// WriteTo hides that of TCPConn, which would skip the buffered bytes.
func (s *bufferedStream) WriteTo(w io.Writer) (int64, error) { return s.r.WriteTo(w) }
