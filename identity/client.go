package identity

import (
	"context"
	"net/netip"
)

type clientKey struct{}

// WithClient returns a context that carries the address of the client that presented
// a credential. An authenticator shares its work among addresses, because the step
// of a credential is not known before it is verified.
func WithClient(ctx context.Context, client netip.Addr) context.Context {
	return context.WithValue(ctx, clientKey{}, client)
}

// ClientOf returns that address, and the zero address where there is none.
func ClientOf(ctx context.Context) netip.Addr {
	client, _ := ctx.Value(clientKey{}).(netip.Addr)
	return client
}
