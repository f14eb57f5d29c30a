package frontend

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/destination"
)

// FuzzHead: what is accepted has one meaning, and it is net/http's too, which
// is on the other side of many connections: the same method, target, framing and
// field values.
func FuzzHead(f *testing.F) {
	expand := strings.NewReplacer("{A}", good, "{H}", "Host: up.test\r\n")
	for _, row := range heads {
		if len(row.raw) < 1000 {
			f.Add([]byte(expand.Replace(row.raw)))
		}
	}
	f.Add([]byte("CONNECT up.test:443 HTTP/1.0\r\nProxy-Authorization: Bearer x\r\n\r\n"))
	f.Add([]byte("POST http://up.test/?q HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX:\t y \r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var scan headScan
		done, refusal := scan.scan(raw)
		if refusal != nil || !done {
			return
		}
		var h head
		if h.parse(raw[scan.begin:scan.line]) != nil {
			return
		}
		if _, err := destination.ParseAuthority(string(h.target)); string(h.method) == "CONNECT" && err != nil {
			return // the gate refuses it
		}
		if _, _, err := destination.ParseAbsolute(string(h.target)); string(h.method) != "CONNECT" && err != nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw[scan.begin:])))
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", raw, err)
		}
		if r.Method != string(h.method) || r.RequestURI != string(h.target) || r.ProtoMinor != h.minor {
			t.Fatalf("net/http reads %s %s 1.%d, we read %s %s 1.%d", r.Method, r.RequestURI, r.ProtoMinor, h.method, h.target, h.minor)
		}
		agreeOnFraming(t, r, &h)
		agreeOnFields(t, r, &h)
	})
}

func agreeOnFraming(t *testing.T, r *http.Request, h *head) {
	theirs := r.ContentLength
	ours := h.length
	if h.chunked {
		ours = -1
	}
	if string(h.method) == "CONNECT" && ours == 0 {
		return // what follows belongs to the tunnel, whatever a server would do with it
	}
	if theirs != ours || (len(r.TransferEncoding) == 1) != h.chunked {
		t.Fatalf("net/http sees %d bytes %v, we see %d", theirs, r.TransferEncoding, ours)
	}
}

func agreeOnFields(t *testing.T, r *http.Request, h *head) {
	ours := http.Header{}
	for _, f := range h.fields {
		ours.Add(string(f.name), string(f.value))
	}
	for name, values := range ours {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
			continue // net/http takes them out of the header
		case "Connection", "Pragma", "Cache-Control":
			continue // and adds to and removes from these
		}
		if strings.Join(values, "\x00") != strings.Join(r.Header[name], "\x00") {
			t.Fatalf("%s: net/http reads %q, we read %q", name, r.Header[name], values)
		}
	}
}

// memory is a chunked body in memory, in pieces.
type memory struct {
	b []byte
}

func (m *memory) line(limit int) ([]byte, error) {
	i := bytes.IndexByte(m.b, '\n')
	if i < 0 && len(m.b) <= limit+1 {
		return nil, io.EOF
	}
	if i < 1 || i-1 > limit || m.b[i-1] != '\r' || bytes.IndexByte(m.b[:i-1], '\r') >= 0 {
		return nil, errLine
	}
	line := m.b[:i-1]
	m.b = m.b[i+1:]
	return line, nil
}

func (m *memory) read(p []byte) (int, error) {
	if len(m.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, m.b)
	m.b = m.b[n:]
	return n, nil
}

// FuzzChunked: what is accepted as a chunked body has the content that net/http
// reads from it, and ends where that does.
func FuzzChunked(f *testing.F) {
	for _, row := range bodies {
		if len(row.raw) < 1000 {
			f.Add([]byte(row.raw))
		}
	}
	f.Add([]byte("5\r\nabcde\r\n1;x=y\r\nf\r\n0\r\nA: b\r\n\r\nGET"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := &memory{b: raw}
		ours, err := io.ReadAll(&chunked{in: in})
		if err != nil {
			if e, ok := errors.AsType[errChunk](err); ok && e.Refusal() == nil {
				t.Fatal("no refusal")
			}
			return
		}
		rest := bufio.NewReader(bytes.NewReader(raw))
		theirs, err := io.ReadAll(httputil.NewChunkedReader(rest))
		if err != nil || !bytes.Equal(ours, theirs) {
			t.Fatalf("net/http reads %q (%v), we read %q from %q", theirs, err, ours, raw)
		}
		// Its reader leaves the trailer: up to there both have read the same.
		left, _ := io.ReadAll(rest)
		if !bytes.HasSuffix(left, in.b) || len(left) > len(in.b)+maxTrailer+2 {
			t.Fatalf("net/http leaves %q, we leave %q", left, in.b)
		}
	})
}
