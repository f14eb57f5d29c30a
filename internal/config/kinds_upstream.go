package config

import (
	"errors"
	"net/url"
	"strings"

	"github.com/sallyport/sallyport/internal/destination"
)

// hostPattern is a host, or "*." and a name.
var hostPattern = kind[destination.Pattern]{
	name: "host pattern", want: "a host such as api.partner.example, or *.partner.example",
	parse: func(_ *decoder, text string) (destination.Pattern, *problem) {
		p, err := destination.ParsePattern(text)
		if err != nil {
			return destination.Pattern{}, wanted("a host such as api.partner.example, or *.partner.example for what is below it", text, targetDetail(err))
		}
		return p, nil
	},
}

// proxyURL is where another HTTP proxy listens: a scheme, a host and a port.
var proxyURL = kind[*url.URL]{
	name: "URL", want: "a URL such as http://proxy.acme.example:3128",
	parse: func(_ *decoder, text string) (*url.URL, *problem) {
		u, p := parseURL(text, "https", "http")
		if p != nil {
			return nil, p
		}
		host, _, err := destination.ParseHost(u.Hostname())
		switch {
		case err != nil:
			return nil, wanted("a URL such as http://proxy.acme.example:3128", text, targetDetail(err))
		case host != u.Hostname():
			return nil, wanted("a URL such as http://proxy.acme.example:3128", text, "write its host as "+host)
		case u.Port() == "":
			return nil, wanted("a URL such as http://proxy.acme.example:3128", text, "add the port: proxies have no usual one")
		case strings.Trim(u.Path, "/") != "":
			return nil, wanted("a URL such as http://proxy.acme.example:3128", text, "a proxy has no path")
		}
		return u, nil
	},
}

func targetDetail(err error) string {
	if e, ok := errors.AsType[*destination.Error](err); ok {
		return e.Detail
	}
	return err.Error()
}

// upstreamProxy checks what belongs together in one entry, and that each can be reached.
func (d *decoder) upstreamProxy(path string, v UpstreamProxy, before []UpstreamProxy) {
	if d.sound(path+".ca_file") && v.Proxy != nil && v.Proxy.Scheme == "http" {
		d.fail(path+".ca_file", "write https://, or remove it", "the connection to the proxy does not use TLS")
	}
	if d.sound(path+".credential_file") && v.Proxy != nil && v.Proxy.Scheme == "http" && !loopback(v.Proxy.Host) {
		d.warn(path+".credential_file", "use https:// where the proxy offers it", "the credential goes over the network in the clear")
	}
	if d.sound(path + ".credential_file") {
		if text, err := v.Credential.Read(); err == nil && strings.Index(text, ":") < 1 {
			d.fail(path+".credential_file", "write user:password on one line", "the file does not hold a user and a password")
		}
	}
	for _, b := range before {
		if len(b.Hosts) == 0 && len(b.Except) == 0 {
			d.warn(path+".proxy", "put it first, or give the entry before it hosts", "it is never used: an entry before it is for every host")
			return
		}
	}
}
