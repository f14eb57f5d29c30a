package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/proxy"
)

// TestNetworks: an exception that never counts, or that opens a metadata service,
// is a warning with its place.
func TestNetworks(t *testing.T) {
	for _, c := range []struct{ allow, deny, want string }{
		{"10.1.2.3/32", "10.0.0.0/8", "allow_networks[0]: the exception never counts: egress.deny_networks has 10.0.0.0/8"},
		{"10.0.0.0/8", "10.0.0.0/8", "allow_networks[0]: the exception never counts"},
		{"192.168.7.0/24, 10.1.2.3/32", "172.16.0.0/12, 10.0.0.0/8", "allow_networks[1]: the exception never counts"},
		{"10.0.0.0/8", "10.0.0.0/9, 10.128.0.0/9", "has 10.0.0.0/9 and 10.128.0.0/9"},
		{"fd12:1::/48", "fc00::/7", "allow_networks[0]: the exception never counts: egress.deny_networks has fc00::/7"},
		{"10.0.0.0/8", "0.0.0.0/0", "the exception never counts: egress.deny_networks has 0.0.0.0/0"},
		{"10.0.0.0/8", "10.1.0.0/16", ""},
		{"10.0.0.0/8", "10.0.0.0/9, 10.128.0.0/10", ""},
		{"10.0.0.0/8", "fc00::/7", ""},
		{"169.254.0.0/16", "", "allow_networks[0]: this opens a cloud's metadata service, which hands out credentials: 169.254.169.254, 169.254.170.2, 169.254.170.23, 169.254.42.42"},
		{"169.254.169.254/32", "", "metadata service"},
		{"100.64.0.0/10", "", "100.100.100.200"},
		{"168.63.129.16/32", "", "168.63.129.16"},
		{"fd00::/8", "", "fd00:ec2::254, fd00:ec2::23, fd20:ce::254, fd00:42::42"},
		{"100.64.0.0/10", "100.100.100.200/32", ""},
		{"10.0.0.0/8, 172.16.0.0/12", "", ""},
	} {
		_, file := newDirectory(t)
		cfg, err := Parse(file, []byte(fmt.Sprintf("%s\negress:\n  allow_networks: [%s]\n  deny_networks: [%s]\n", minimal, flowItems(c.allow), flowItems(c.deny))))
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		var got []string
		for _, w := range cfg.Warnings() {
			if strings.Contains(w.Path, "networks") {
				got = append(got, w.String())
				if w.Line == 0 || w.Column == 0 || w.Hint == "" {
					t.Errorf("%+v: the warning has no place or no remedy: %v", c, w)
				}
			}
		}
		if text := strings.Join(got, "\n"); !strings.Contains(text, c.want) || (text == "") != (c.want == "") {
			t.Errorf("allow %s, deny %s: got %q, want %q", c.allow, c.deny, text, c.want)
		}
	}
}

func flowItems(list string) string {
	if list == "" {
		return ""
	}
	return `"` + strings.ReplaceAll(list, ", ", `", "`) + `"`
}

// TestMetadataAddresses: the guard refuses each of them where nothing is allowed.
func TestMetadataAddresses(t *testing.T) {
	for _, a := range metadataAddresses {
		if got := new(proxy.Guard).Classify(netip.AddrPortFrom(a, 80)); got.Permits() {
			t.Errorf("%s is %s", a, got)
		}
	}
}
