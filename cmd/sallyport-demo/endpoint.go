package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/sallyport/sallyport/internal/bitbuckettest/hook"
)

// endpoint is an internal system that receives deliveries and verifies Bitbucket's
// signature itself.
type endpoint struct {
	server   *httptest.Server
	received chan string // a line about each delivery
}

func newEndpoint(secret string) *endpoint {
	e := &endpoint{received: make(chan string, 16)}
	e.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, hook.MaxCloudBody))
		if err != nil || r.Header.Get("X-Hub-Signature") != hook.Signature(secret, body) {
			http.Error(w, "not signed by Bitbucket", http.StatusUnauthorized)
			return
		}
		select {
		case e.received <- fmt.Sprintf("%s with Bitbucket's signature, as delivery %s", r.Header.Get("X-Event-Key"), r.Header.Get("Sallyport-Delivery")):
		default:
		}
	}))
	return e
}
