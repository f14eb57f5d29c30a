package proxy

import (
	"bytes"
	"errors"
	"io"
)

// maxConnectAnswer bounds the head of an upstream proxy's answer.
const maxConnectAnswer = 16 << 10

var errConnectAnswer = errors.New("it is not the head of an HTTP/1 answer")

// readConnectAnswer reads the head of the answer to a CONNECT and returns its
// status, 200 to 599. It reads byte by byte and not one beyond the head: what
// follows belongs to the tunnel, which then needs no buffer of its own between
// the target and the kernel. A head is short, and there is one for each tunnel.
//
// It accepts the syntax of RFC 9112 sections 4 and 5, and nothing that recipients may
// repair. An interim response (1xx) before a tunnel is refused. A length in a successful
// response is not checked (RFC 9110 section 9.3.6).
func readConnectAnswer(r io.Reader) (status int, err error) {
	head := make([]byte, 0, 256)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if len(head) == maxConnectAnswer {
			return 0, errors.New("its head is too long")
		}
		if len(head) == cap(head) {
			head = append(head, 0)[:len(head)]
		}
		n, err := r.Read(head[len(head) : len(head)+1])
		head = head[:len(head)+n]
		if n == 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		if n > 0 && head[len(head)-1] == '\n' && (len(head) < 2 || head[len(head)-2] != '\r') {
			return 0, errConnectAnswer
		}
	}
	return parseConnectAnswer(head[:len(head)-2])
}

// parseConnectAnswer reads a head whose lines all end with CRLF.
func parseConnectAnswer(head []byte) (int, error) {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	status, ok := parseStatusLine(line)
	if !ok {
		return 0, errConnectAnswer
	}
	for len(fields) > 0 {
		var field []byte
		field, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		name, value, colon := bytes.Cut(field, []byte(":"))
		if !colon || !isToken(name) || !isText(value) {
			return 0, errConnectAnswer
		}
	}
	return status, nil
}

// parseStatusLine reads "HTTP/1.1 200 OK". The phrase and the space before it may
// be missing: too many senders leave them out.
func parseStatusLine(line []byte) (int, bool) {
	const version = len("HTTP/1.1")
	if len(line) < version+4 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[version-1] != '0' && line[version-1] != '1' || line[version] != ' ' {
		return 0, false
	}
	status := 0
	for _, c := range line[version+1 : version+4] {
		if c < '0' || c > '9' {
			return 0, false
		}
		status = 10*status + int(c-'0')
	}
	phrase := line[version+4:]
	if len(phrase) > 0 && phrase[0] != ' ' || !isText(phrase) {
		return 0, false
	}
	return status, 200 <= status && status <= 599
}

// isToken is RFC 9110 section 5.6.2.
func isToken(b []byte) bool {
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0:
		default:
			return false
		}
	}
	return len(b) > 0
}

// isText reports whether there is no control byte but the tab.
func isText(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
