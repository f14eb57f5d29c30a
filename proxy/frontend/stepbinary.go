package frontend

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/internal/stepbinaries"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// binaryDownloads bounds downloads, by client address: they need no credential.
var binaryDownloads = fair.Config{
	Repository:   fair.Limit{Slots: 8, Waiting: 64},
	Total:        fair.Limit{Slots: 64, Waiting: 256},
	Wait:         10 * time.Second,
	WaitForSlots: true,
}

// downloadTimeout bounds one download: a client that reads slowly does not hold a turn longer.
const downloadTimeout = time.Minute

// serveBinary answers with a build of sallyport-step, or with its SHA-256. No credential is
// needed or read.
func (c *conn) serveBinary(h *head, name string) {
	refusal := onlyGet(h)
	if refusal == nil && len(h.target) != len(h.path()) {
		refusal = malformed("a build of sallyport-step has no query")
	}
	if refusal == nil {
		refusal = c.sendBinary(name, string(h.method) == http.MethodHead)
	}
	if refusal != nil {
		c.refuseAsOrigin(refusal)
	}
}

func (c *conn) sendBinary(name string, head bool) *proxy.Refusal {
	s := c.server
	ctx, cancel := context.WithTimeout(s.context, stepTimeout)
	defer cancel()
	lease, err := s.downloads.Acquire(ctx, fair.Subject{Repository: host(c.client.Addr()).String()}, 0)
	if err != nil {
		return proxy.NewRefusal(policy.Overloaded, "too many downloads from this address, or from all addresses, are in progress")
	}
	defer lease.Release()
	build, refusal := s.binary(strings.TrimSuffix(name, stepbinaries.SumSuffix))
	if refusal != nil {
		return refusal
	}
	s.binariesSent.Add(1)
	if strings.HasSuffix(name, stepbinaries.SumSuffix) {
		c.writeOwn(contentTypes[stepapi.FormatText], []byte(build.SHA256+"  "+strings.TrimSuffix(name, stepbinaries.SumSuffix)+"\n"), head)
		return nil
	}
	c.writeBinary(build, head)
	return nil
}

// binary returns a build, or the refusal: a 404 that states what is missing.
func (s *Server) binary(name string) (*stepbinaries.Build, *proxy.Refusal) {
	missing := func(detail string) *proxy.Refusal {
		r := malformed(detail)
		r.Status = http.StatusNotFound
		return r
	}
	if s.config.Binaries == nil {
		return nil, missing("this instance offers no builds of sallyport-step: its operator can set step_binaries")
	}
	build, err := s.config.Binaries.Build(name)
	switch {
	case err == stepbinaries.ErrUnknown:
		return nil, missing("the builds of sallyport-step are " + strings.Join(stepbinaries.Names, " and ") + ", each also with " + stepbinaries.SumSuffix)
	case err != nil:
		s.config.Log.Warn("build of sallyport-step not offered", "error", err)
		return nil, missing("this instance does not have the build: its operator finds the reason in the log")
	}
	return build, nil
}

// writeBinary writes a build with its digest (RFC 9530 section 3).
func (c *conn) writeBinary(build *stepbinaries.Build, head bool) {
	digest, _ := hex.DecodeString(build.SHA256) // the directory's own
	b := append([]byte("HTTP/1."), byte('0'+c.minor))
	b = append(b, " 200 OK\r\nContent-Type: application/octet-stream"...)
	b = appendField(b, "Content-Length", strconv.Itoa(len(build.Content)))
	b = appendField(b, "Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(digest)+":")
	b = append(b, "\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"...)
	if c.stream.SetWriteDeadline(time.Now().Add(downloadTimeout)) != nil {
		return
	}
	if _, err := c.stream.Write(b); err != nil {
		return
	}
	if !head {
		if _, err := c.stream.Write(build.Content); err != nil {
			return
		}
	}
	c.linger()
}
