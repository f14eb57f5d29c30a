package proxy

import "errors"

// A tunnel carries TLS whose server name is the target. The ClientHello is the
// only place where the client says so in clear, so it is read, checked and then
// passed on as it came (RFC 8446 section 4.1.2, RFC 6066 section 3).

// maxHello bounds a ClientHello with its record headers, however they come.
const maxHello = 16 << 10

var (
	errHelloMore      = errors.New("the ClientHello is not complete")
	errHelloInvalid   = errors.New("the first bytes are not a TLS ClientHello")
	errHelloTooLarge  = errors.New("the ClientHello is too large")
	errHelloNoName    = errors.New("the ClientHello has no server name")
	errHelloEncrypted = errors.New("the ClientHello hides its server name")
)

// parseHello reads the server name from the first bytes of a TLS connection. It
// returns errHelloMore as long as those could still become a valid ClientHello.
// The name is returned as it stands, not canonical. A handshake message may be
// cut into any number of records (RFC 8446 section 5.1).
func parseHello(b []byte) (name string, err error) {
	message, complete, err := helloMessage(b)
	if err != nil {
		return "", err
	}
	if !complete {
		if len(b) >= maxHello {
			return "", errHelloTooLarge
		}
		return "", errHelloMore
	}
	return serverName(message)
}

// helloMessage takes the ClientHello's body out of its records. What it says does
// not depend on how the bytes were cut on their way.
func helloMessage(b []byte) (body []byte, complete bool, err error) {
	const (
		recordHeader    = 5
		typeHandshake   = 22
		typeClientHello = 1
		maxRecord       = 1 << 14
	)
	var fragments []byte
	for whole := len(b); len(b) > 0; {
		if b[0] != typeHandshake || len(b) > 1 && b[1] != 3 || len(b) > 2 && b[2] > 4 {
			return nil, false, errHelloInvalid
		}
		if len(b) < recordHeader {
			return nil, false, nil
		}
		size := int(b[3])<<8 | int(b[4])
		// An empty handshake record is forbidden (RFC 8446 section 5.1), and one
		// over the limit is an error (section 5.1 again).
		if size == 0 || size > maxRecord {
			return nil, false, errHelloInvalid
		}
		part, before := b[recordHeader:min(len(b), recordHeader+size)], len(fragments)
		if fragments == nil {
			fragments = part[:len(part):len(part)]
		} else {
			fragments = append(fragments, part...)
		}
		if len(fragments) > 0 && fragments[0] != typeClientHello {
			return nil, false, errHelloInvalid
		}
		if len(fragments) >= 4 {
			want := int(fragments[1])<<16 | int(fragments[2])<<8 | int(fragments[3])
			// Nothing may follow the ClientHello in its record: the client has to
			// wait for the server (early data is in records of another type).
			if before+size > 4+want {
				return nil, false, errHelloInvalid
			}
			if used := whole - len(b) + recordHeader + len(part); used+4+want-len(fragments) > maxHello {
				return nil, false, errHelloTooLarge
			}
			if len(fragments) == 4+want {
				return fragments[4:], true, nil
			}
		}
		if len(b) < recordHeader+size {
			return nil, false, nil
		}
		b = b[recordHeader+size:]
	}
	return nil, false, nil
}

// bytesReader takes fields off the front of a message; once one is missing,
// everything after it is too.
type bytesReader struct {
	b   []byte
	bad bool
}

func (r *bytesReader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	head := r.b[:n]
	r.b = r.b[n:]
	return head
}

func (r *bytesReader) number(size int) int {
	n := 0
	for _, c := range r.take(size) {
		n = n<<8 | int(c)
	}
	return n
}

// vector takes a field that has its length in front, in size bytes.
func (r *bytesReader) vector(size int) bytesReader {
	inner := r.take(r.number(size))
	return bytesReader{b: inner, bad: r.bad}
}

// serverName finds the one host_name of the server_name extension.
func serverName(message []byte) (string, error) {
	const (
		extensionServerName = 0
		// Encrypted ClientHello (RFC 9849): what stands outside is not what is asked for.
		extensionEncryptedHello = 0xfe0d
	)
	r := bytesReader{b: message}
	r.take(2)   // legacy_version
	r.take(32)  // random
	r.vector(1) // legacy_session_id
	r.vector(2) // cipher_suites
	r.vector(1) // legacy_compression_methods
	if r.bad {
		return "", errHelloInvalid
	}
	if len(r.b) == 0 {
		return "", errHelloNoName
	}
	extensions := r.vector(2)
	if r.bad || len(r.b) != 0 {
		return "", errHelloInvalid
	}
	var seen [1 << 16 / 64]uint64 // one bit for each kind
	name := ""
	for len(extensions.b) > 0 {
		kind := extensions.number(2)
		data := extensions.vector(2)
		// A doubled extension is forbidden (RFC 8446 section 4.2), and would let
		// two readers see two names.
		if extensions.bad || seen[kind/64]&(1<<(kind%64)) != 0 {
			return "", errHelloInvalid
		}
		seen[kind/64] |= 1 << (kind % 64)
		if kind == extensionEncryptedHello {
			return "", errHelloEncrypted
		}
		if kind != extensionServerName {
			continue
		}
		var err error
		if name, err = hostName(data); err != nil {
			return "", err
		}
	}
	if name == "" {
		return "", errHelloNoName
	}
	return name, nil
}

// hostName reads a server_name extension: a list that may hold one host_name
// and, as nothing else was ever defined, holds nothing else (RFC 6066 section 3).
func hostName(data bytesReader) (string, error) {
	list := data.vector(2)
	if data.bad || len(data.b) != 0 || len(list.b) == 0 {
		return "", errHelloInvalid
	}
	kind := list.number(1)
	name := list.vector(2)
	if list.bad || len(list.b) != 0 || kind != 0 || len(name.b) == 0 {
		return "", errHelloInvalid
	}
	return string(name.b), nil
}
