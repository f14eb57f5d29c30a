package frontend

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/proxy"
)

// acceptNetworkCheck records the network check that a step posts, and responds 204 once
// that is durable.
func (c *conn) acceptNetworkCheck(h *head) {
	refusal := postsJSON(h)
	if refusal == nil {
		refusal = c.asStep(h, c.server.checking, func(ctx context.Context, of *proxy.Inquiry) *proxy.Refusal {
			check, refusal := c.readNetworkCheck(h)
			if refusal != nil {
				return refusal
			}
			results := make([]proxy.NetworkResult, len(check.Results))
			for i, r := range check.Results {
				results[i] = proxy.NetworkResult(r)
			}
			return c.server.config.Gate.RecordNetworkCheck(ctx, of, check.Outcome(), results)
		})
	}
	if refusal != nil {
		c.refuseAsOrigin(refusal)
		return
	}
	c.server.networkChecks.Add(1)
	c.writeNoContent()
}

// postsJSON refuses other methods, a query, and a body that is missing or too long.
func postsJSON(h *head) *proxy.Refusal {
	switch {
	case string(h.method) != http.MethodPost:
		r := malformed("a network check is sent with POST")
		r.Status, r.Allow = http.StatusMethodNotAllowed, http.MethodPost
		return r
	case len(h.target) != len(h.path()):
		return malformed(stepapi.PathNetworkCheck + " has no query")
	case !h.body():
		return malformed("the network check has no body")
	case !h.chunked && h.length > stepapi.MaxNetworkCheck:
		return networkCheckTooLong()
	}
	return nil
}

func networkCheckTooLong() *proxy.Refusal {
	r := malformed("the network check is longer than 32 KiB: send fewer results")
	r.Status = http.StatusRequestEntityTooLarge
	return r
}

// networkCheckBody bounds the time for the whole body: it holds one of the turns of all steps.
const networkCheckBody = 5 * time.Second

// readNetworkCheck reads and validates the body.
func (c *conn) readNetworkCheck(h *head) (*stepapi.NetworkCheck, *proxy.Refusal) {
	c.drain = time.Now().Add(networkCheckBody)
	defer func() { c.drain = time.Time{} }()
	b := newBody(c, h, c)
	content, err := io.ReadAll(io.LimitReader(b, stepapi.MaxNetworkCheck+1))
	switch {
	case err != nil:
		return nil, malformed("the body could not be read to its end")
	case len(content) > stepapi.MaxNetworkCheck:
		return nil, networkCheckTooLong()
	}
	check, err := stepapi.ParseNetworkCheck(content)
	if err != nil {
		return nil, malformed(err.Error())
	}
	return check, nil
}

// proceed sends 100 Continue (RFC 9110 section 10.1.1).
func (c *conn) proceed() error {
	_, err := io.WriteString(c.stream, "HTTP/1.1 100 Continue\r\n\r\n")
	return err
}
