package selftest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/proxy"
)

const (
	echoBytes = 32 // that are sent back
	echoHead  = 4 << 10
	maxEchoes = 4 // connections at once
)

// Echo is the target of the allowed probe: a server of this process on loopback, which
// refuses every client without the gate's credential. To the gate it is an upstream
// proxy for one name, so that the guard, which refuses loopback to every request, needs
// no exception.
type Echo struct {
	listener    net.Listener
	credential  string // user:password
	certificate tls.Certificate
	roots       *x509.CertPool
	places      chan struct{}
	all         sync.WaitGroup
}

// OpenEcho listens on a loopback port.
func OpenEcho() (*Echo, error) {
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	e := &Echo{credential: "self-test:" + hex.EncodeToString(secret[:]), places: make(chan struct{}, maxEchoes)}
	if err := e.certify(); err != nil {
		return nil, fmt.Errorf("self-test: make a certificate: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("self-test: %w", err)
	}
	e.listener = l
	e.all.Go(e.serve)
	return e, nil
}

// Close ends it and waits for open tunnels.
func (e *Echo) Close() {
	_ = e.listener.Close()
	e.all.Wait()
}

// UpstreamProxy is the way to it, for a gate.
func (e *Echo) UpstreamProxy() (*proxy.UpstreamProxy, error) {
	host, err := destination.ParsePattern(EchoHost)
	if err != nil {
		return nil, fmt.Errorf("self-test: %w", err)
	}
	at := e.listener.Addr().(*net.TCPAddr)
	return &proxy.UpstreamProxy{
		Host: at.IP.String(), Port: uint16(at.Port), Hosts: []destination.Pattern{host}, ResolveUpstream: true,
		Credential: func() (string, error) { return e.credential, nil },
	}, nil
}

func (e *Echo) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: EchoHost}, DNSNames: []string{EchoHost},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(20, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	e.certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	e.roots = x509.NewCertPool()
	e.roots.AddCert(leaf)
	return nil
}

func (e *Echo) serve() {
	for {
		conn, err := e.listener.Accept()
		if err != nil {
			return
		}
		select {
		case e.places <- struct{}{}:
			e.all.Go(func() {
				defer func() { <-e.places }()
				e.serveConn(conn)
			})
		default:
			_ = conn.Close()
		}
	}
}

// answer serves one connection: a CONNECT of the gate's, TLS, and the bytes back.
func (e *Echo) serveConn(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(probeTimeout))
	head := bufio.NewReaderSize(io.LimitReader(conn, echoHead), echoHead)
	r, err := http.ReadRequest(head)
	if err != nil {
		return
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(e.credential))
	if r.Method != http.MethodConnect || r.RequestURI != net.JoinHostPort(EchoHost, strconv.Itoa(port)) || head.Buffered() > 0 ||
		subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), []byte(want)) != 1 {
		_, _ = io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	secured := tls.Server(conn, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{e.certificate}})
	defer func() { _ = secured.Close() }()
	var sent [echoBytes]byte
	if _, err := io.ReadFull(secured, sent[:]); err == nil {
		_, _ = secured.Write(sent[:])
	}
}
