package proxy

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

func TestRequestStart(t *testing.T) {
	for in, want := range map[string]struct{ is, may bool }{
		"":                             {false, true},
		"G":                            {false, true},
		"GET":                          {false, true},
		"GET ":                         {false, true},
		"GET /":                        {true, false},
		"GET http":                     {false, true},
		"GET http://a.example/":        {true, false},
		"GET https://a.example/":       {false, false},
		"PROPFIND /x":                  {true, false},
		"OPTIONS *":                    {false, true},
		"OPTIONS * HTTP/1.1":           {true, false},
		"GET * HTTP/1.1":               {false, false},
		"PRI * HTTP/2.0":               {false, false}, // RFC 9113 section 3.4
		"SSH-2.0-OpenSSH_9.2":          {false, false}, // RFC 4253 section 4.2
		"EHLO a.example":               {false, false}, // RFC 5321 section 4.1.1.1
		"USER anonymous":               {false, false}, // RFC 959
		"get /":                        {false, false}, // methods are case-sensitive, and clients write capitals
		" GET /":                       {false, false},
		"GET  /":                       {false, false},
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ /": {false, false},
		"\x16\x03\x01":                 {false, false},
	} {
		if is, may := requestStart([]byte(in)); is != want.is || may != want.may {
			t.Errorf("%q: is %v and may be %v, want %v and %v", in, is, may, want.is, want.may)
		}
	}
}

// FuzzRequestStart holds that what was read so far never contradicts what more
// bytes show.
func FuzzRequestStart(f *testing.F) {
	for _, s := range []string{"GET /", "OPTIONS * HTTP/1.1", "GET http://a/", "PRI *", "SSH-2", "\x16\x03"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		is, may := requestStart(b)
		if is && may {
			t.Fatalf("%q is a request and may become one", b)
		}
		for n := range b {
			if was, could := requestStart(b[:n]); was && !is || is && !was && !could || may && !could {
				t.Fatalf("%q: %v %v after %v %v for the first %d bytes", b, is, may, was, could, n)
			}
		}
	})
}

// TestPlainHTTPInsideATunnel: a tunnel that must carry TLS and begins with a
// request sends nothing to the target, ends recorded, and leaves the client's
// connection with all its bytes to the caller.
func TestPlainHTTPInsideATunnel(t *testing.T) {
	const head = "GET /x HTTP/1.1\r\nHost: up.test\r\n\r\nmore"
	for name, pieces := range map[string][]string{
		"at once":      {head},
		"byte by byte": bytesOf(head[:12]),
	} {
		t.Run(name, func(t *testing.T) {
			r := newTunnelEnv(t)
			r.admitted.Decision.Protocol = policy.ProtocolTLS
			type result struct {
				out     Outcome
				request []byte
			}
			ended := make(chan result, 1)
			begun := false
			go func() {
				out, request := r.tracker.RunConnect(r.admitted, r.stream, nil, r.upstream, func() { begun = true })
				ended <- result{out, request}
			}()
			for _, piece := range pieces {
				if _, err := io.WriteString(r.client, piece); err != nil {
					break // it was recognized before its last byte
				}
			}
			got := <-ended
			if got.out.Cause != CauseHTTPRequest || got.out.Sent != 0 || begun || !bytes.HasPrefix([]byte(head), got.request) || len(got.request) < len("GET /") {
				t.Fatalf("%+v, %q, begun %v", got.out, got.request, begun)
			}
			if n, err := io.Copy(io.Discard, r.target); n > 0 || err != nil {
				t.Errorf("the target got %d bytes, %v", n, err)
			}
			// The connection works in both directions still.
			_ = r.stream.SetDeadline(time.Now().Add(patience))
			rest := make([]byte, len(joined(pieces))-len(got.request))
			if _, err := io.ReadFull(r.stream, rest); err != nil || string(got.request)+string(rest) != joined(pieces) {
				t.Errorf("read %q and %q, %v", got.request, rest, err)
			}
			if _, err := io.WriteString(r.stream, "HTTP/1.1"); err != nil {
				t.Error(err)
			}
			// A stop that comes now has nothing to stop.
			if n := r.tracker.Close(CauseOperator, nil); n != 0 {
				t.Errorf("%d tunnels are open", n)
			}
			_ = r.stream.Close()
		})
	}
}

// TestPlainHTTPIsNotForOthers: without a caller for the requests, or where the
// tunnel was stopped first, a request instead of TLS is refused like any bytes.
func TestPlainHTTPIsNotForOthers(t *testing.T) {
	r := newTunnelEnv(t)
	r.admitted.Decision.Protocol = policy.ProtocolTLS
	r.start()
	if _, err := io.WriteString(r.client, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if out := <-r.ended; out.Cause != CauseHelloInvalid {
		t.Errorf("%+v", out)
	}
}

func bytesOf(s string) (list []string) {
	for i := range len(s) {
		list = append(list, s[i:i+1])
	}
	return list
}

func joined(pieces []string) (s string) {
	for _, p := range pieces {
		s += p
	}
	return s
}
