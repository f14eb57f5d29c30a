package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/sallyport/sallyport/step/forwarder"
	"github.com/sallyport/sallyport/step/portforward"
	"github.com/sallyport/sallyport/step/token"
	"github.com/sallyport/sallyport/step/upstream"
)

// engine is a running forwarder with its listeners.
type engine struct {
	forwarder *forwarder.Forwarder
	client    *upstream.Client
	lines     *lineWriter
	step      string         // what the proxy knows of the step; "": it was not asked
	own       netip.AddrPort // for this machine's users
	docker    netip.AddrPort // for containers; invalid: none

	ctx      context.Context // of the forwarded ports
	cancel   context.CancelFunc
	routines sync.WaitGroup
}

// openToken returns the source of the token. The variable that has the token is removed
// from this process, so that no child inherits it.
func openToken(o options, errOut io.Writer) (token.Source, error) {
	switch {
	case o.TokenFile != "":
		return token.File(o.TokenFile)
	case o.TokenCommand != "":
		return token.Command(token.CommandConfig{Args: []string{"/bin/sh", "-c", o.TokenCommand}, Stderr: errOut})
	default:
		return token.Environment(o.TokenVariable, true)
	}
}

// openUpstream returns the client for Sallyport.
func openUpstream(o options, errOut io.Writer) (*upstream.Client, error) {
	source, err := openToken(o, errOut)
	if err != nil {
		return nil, err
	}
	return upstream.New(upstream.Config{Proxies: o.Proxies, Plaintext: o.Plaintext, CAFile: o.CAFile, Token: source})
}

// startEngine starts the forwarder and its listeners. Refusals are printed to errOut.
func startEngine(ctx context.Context, o options, errOut io.Writer) (_ *engine, err error) {
	e := &engine{lines: newLineWriter(errOut)}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if e.client, err = openUpstream(o, e.lines); err != nil {
		return nil, err
	}
	if !o.NoCheck {
		if e.step, err = checkProxy(ctx, e.client); err != nil {
			return nil, err
		}
	}
	var uids []uint32
	for _, uid := range o.AllowUIDs {
		uids = append(uids, uint32(uid))
	}
	e.forwarder, err = forwarder.New(forwarder.Config{
		Upstream: e.client, Admit: forwarder.Users(uids...),
		Refused: func(r forwarder.Refusal) { e.lines.print(r.Line()) },
	})
	if err != nil {
		return nil, err
	}
	if err := e.listen(o); err != nil {
		return nil, err
	}
	e.client.Warm()
	return e, nil
}

func (e *engine) listen(o options) error {
	own, err := net.Listen("tcp4", o.Listen)
	if err != nil {
		return fmt.Errorf("listen for the step's tools: %w: choose another port with --listen", err)
	}
	e.own = own.Addr().(*net.TCPAddr).AddrPort()
	e.routines.Go(func() { e.ended(e.forwarder.Serve(own)) })
	if o.Docker != "" {
		address, networks, err := containerAddress(o)
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp4", netip.AddrPortFrom(address, 0).String())
		if err != nil {
			return fmt.Errorf("listen for containers: %w: give an address of this machine to --listen-docker", err)
		}
		e.docker = l.Addr().(*net.TCPAddr).AddrPort()
		e.routines.Go(func() { e.ended(e.forwarder.ServeNetworks(l, networks)) })
	}
	for _, forward := range o.Forwards {
		if _, err := e.forward(forward); err != nil {
			return err
		}
	}
	return nil
}

// ended reports a listener that ended before the forwarder was closed.
func (e *engine) ended(err error) {
	if err != nil && e.ctx.Err() == nil {
		e.lines.print("sallyport-step: " + err.Error() + "\n")
	}
}

// forward opens a forwarded port and returns its address.
func (e *engine) forward(text string) (netip.AddrPort, error) {
	spec, err := portforward.ParseSpec(text)
	if err != nil {
		return netip.AddrPort{}, err
	}
	l, err := net.Listen("tcp", spec.Local.String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("forward %s: %w: choose another local port", spec.Target, err)
	}
	config := portforward.Config{
		Admit: e.forwarder.Admit,
		Connect: func(ctx context.Context, target string) (portforward.Stream, error) {
			return e.forwarder.Connect(ctx, target)
		},
	}
	e.routines.Go(func() { e.ended(portforward.Serve(e.ctx, l, spec.Target, config)) })
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

// refusedError is a refusal of Sallyport.
type refusedError struct{ line string }

func (e refusedError) Error() string { return e.line }

// connectTarget opens a tunnel. A refusal is a refusedError.
func connectTarget(ctx context.Context, client *upstream.Client, target string) (portforward.Stream, error) {
	stream, refusal, err := client.Connect(ctx, target)
	if err != nil {
		return nil, err
	}
	if refusal != nil {
		line := forwarder.Refusal{Refusal: *refusal, Action: "connect", Target: target}.Line()
		return nil, refusedError{line}
	}
	return stream, nil
}

// close ends the forwarder and all connections.
func (e *engine) close() {
	e.cancel()
	if e.forwarder != nil {
		e.forwarder.Close()
	}
	e.routines.Wait()
	if e.client != nil {
		e.client.Close()
	}
	e.lines.close()
}
