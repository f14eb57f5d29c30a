package socks

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// client is a client that has sent its bytes already.
type client struct {
	io.Reader
	bytes.Buffer // the answers
}

func (c *client) Read(b []byte) (int, error) { return c.Reader.Read(b) }

func TestTarget(t *testing.T) {
	t.Parallel()
	const greeting = "\x05\x01\x00"
	for _, c := range []struct{ sent, target, answer string }{
		{greeting + "\x05\x01\x00\x03\x0bexample.com\x01\xbb", "example.com:443", "\x05\x00"},
		{"\x05\x02\x02\x00" + "\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50", "127.0.0.1:80", "\x05\x00"},
		{greeting + "\x05\x01\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x00\x50", "[::1]:80", "\x05\x00"},
		{greeting + "\x05\x01\x00\x04" + strings.Repeat("\x00", 10) + "\xff\xff\x0a\x00\x00\x01\x00\x50", "10.0.0.1:80", "\x05\x00"},
		{greeting + "\x05\x01\x00\x03\x03a:b\x00\x50", "[a:b]:80", "\x05\x00"},
		{"\x05\x01\x02", "", "\x05\xff"},
		{"\x05\x00", "", "\x05\xff"},
		{greeting + "\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", "", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"},
		{greeting + "\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", "", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"},
		{greeting + "\x05\x01\x00\x02\x00", "", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00"},
		{greeting + "\x05\x01\x00\x03\x00\x00\x50", "", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00"},
		{greeting + "\x04\x01\x00\x01", "", "\x05\x00"},
		{"\x04\x01", "", ""},
	} {
		in := &client{Reader: strings.NewReader(c.sent)}
		target, err := Target(in)
		if target != c.target || in.String() != c.answer || (err == nil) != (c.target != "") || err != nil && !errors.Is(err, ErrProtocol) {
			t.Errorf("%q: %q, %v, answer %q", c.sent, target, err, in.String())
		}
	}
}

// FuzzTarget: no bytes make the parser panic or read beyond the request; a target is a
// host and a port.
func FuzzTarget(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x0bexample.com\x01\xbbGET /"))
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x04aaaaaaaaaaaaaaaa\x01\xbb"))
	f.Add([]byte("\x05\xff"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := bytes.NewReader(sent)
		in := &client{Reader: r}
		target, err := Target(in)
		if consumed := len(sent) - r.Len(); consumed > 2+255+4+1+255+2 {
			t.Fatalf("read %d bytes", consumed)
		}
		if in.Len() > 12 {
			t.Fatalf("answered %q", in.String())
		}
		if err != nil {
			return
		}
		if host, port, err := net.SplitHostPort(target); err == nil && (host == "" || port == "") {
			t.Fatalf("target %q", target)
		}
		if in.String() != "\x05\x00" {
			t.Fatalf("answered %q", in.String())
		}
	})
}
