package bitbucketapi

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
)

// TestTransportIgnoresTheEnvironment: a proxy of the environment is not used.
func TestTransportIgnoresTheEnvironment(t *testing.T) {
	if own := NewHTTP(nil, time.Now).http.Transport.(*http.Transport); own.Proxy != nil {
		t.Error("the transport reads a proxy from the environment")
	}
}

// TestSwitchingProtocolsIsAnError: the body of such a response has no end.
func TestSwitchingProtocolsIsAnError(t *testing.T) {
	h := NewHTTP(nil, time.Now)
	defer h.CloseIdleConnections()
	_, err := h.Get(t.Context(), proxytest.Switching(t), "")
	if failed, ok := errors.AsType[*StatusError](err); !ok || failed.Status != 101 {
		t.Error(err)
	}
}

func TestSameHost(t *testing.T) {
	const api = "https://api.bitbucket.org/2.0"
	for address, want := range map[string]bool{
		"https://api.bitbucket.org/2.0/x?page=2": true,
		"http://api.bitbucket.org/2.0":           false,
		"https://api.bitbucket.org:8443/2.0":     false,
		"https://user@api.bitbucket.org/2.0":     false,
		"https://api.bitbucket.org.evil.example": false,
		"/2.0/x":                                 false,
		"::":                                     false,
	} {
		if SameHost(address, api) != want {
			t.Errorf("%s: %t", address, !want)
		}
	}
}

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]bool{
		"https://api.bitbucket.org/2.0": true, "http://127.0.0.1:8080/2.0": true, "http://[::1]/2.0": true, "http://localhost/2.0": true,
		"http://api.bitbucket.org/2.0": false, "ftp://api.bitbucket.org": false, "https://a@b.example": false, "https://b.example/": false,
		"https://b.example?": false, "https://b.example#": false, "b.example": false, "https:b": false, "": false, "https://\x00": false,
	} {
		if _, err := ParseURL(raw); (err == nil) != want {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
