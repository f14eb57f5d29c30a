package configcmd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/internal/config"
)

// checkUpstream asks an upstream proxy for a tunnel to a host that this configuration
// needs, and closes it. detail is what it answered.
func checkUpstream(ctx context.Context, v config.UpstreamProxy, target string) (detail string, err error) {
	all, err := components.UpstreamProxies([]config.UpstreamProxy{v})
	if err != nil {
		return "", err
	}
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", v.Proxy.Host)
	if err != nil {
		return "", fmt.Errorf("%w: start the proxy, or correct egress.upstream_proxies[].proxy", err)
	}
	defer conn.Close()
	if v.Proxy.Scheme == "https" {
		secured := tls.Client(conn, all[0].TLS)
		if err := secured.HandshakeContext(ctx); err != nil {
			return "", fmt.Errorf("TLS: %w: name the authority's file in egress.upstream_proxies[].ca_file, and the host as its certificate does", err)
		}
		conn = secured
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	head := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if all[0].Credential != nil {
		credential, err := all[0].Credential()
		if err != nil {
			return "", err
		}
		head += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(credential)) + "\r\n"
	}
	if _, err := conn.Write([]byte(head + "\r\n")); err != nil {
		return "", fmt.Errorf("ask for a tunnel: %w", err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return "", errors.New("it accepts connections and does not answer CONNECT as an HTTP proxy: correct the scheme and the port of egress.upstream_proxies[].proxy")
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusProxyAuthRequired:
		return "", errors.New("it answers 407: correct user and password in egress.upstream_proxies[].credential_file")
	case response.StatusCode/100 != 2:
		return fmt.Sprintf("it answers, and refuses %s with %s: if steps need such targets, let it allow CONNECT to them", target, strings.TrimSpace(response.Status)), nil
	}
	return "it opens tunnels", nil
}
