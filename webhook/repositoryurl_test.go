package webhook

import (
	"strings"
	"testing"
)

func TestNormalizedURLs(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://bitbucket.org/acme/app":                "bitbucket.org/acme/app",
		"https://bitbucket.org/Acme/App.git":            "bitbucket.org/acme/app",
		"https://bitbucket.org/acme/app/":               "bitbucket.org/acme/app",
		"https://bitbucket.org/acme/app.git/":           "bitbucket.org/acme/app",
		"HTTPS://BITBUCKET.ORG/acme/app":                "bitbucket.org/acme/app",
		"https://ada@bitbucket.org/acme/app.git":        "bitbucket.org/acme/app",
		"https://ada:secret@bitbucket.org:443/acme/app": "bitbucket.org/acme/app",
		"git@bitbucket.org:acme/app.git":                "bitbucket.org/acme/app",
		"bitbucket.org:acme/app.git":                    "bitbucket.org/acme/app",
		"git@bitbucket.org:/acme/app.git":               "bitbucket.org/acme/app",
		"ssh://git@bitbucket.org/acme/app.git":          "bitbucket.org/acme/app",
		"ssh://git@bitbucket.org:22/acme/app.git":       "bitbucket.org/acme/app",
		"ssh://git@bb.example:7999/prj/app.git":         "bb.example:7999/prj/app",
		"https://bb.example/bitbucket/scm/prj/app.git":  "bb.example/bitbucket/scm/prj/app",
		"https://bb.example:8443/scm/~ada/app.git":      "bb.example:8443/scm/~ada/app",
		"http://bb.example:80/scm/prj/app":              "bb.example/scm/prj/app",
		"http://[2001:db8::1]/scm/prj/app":              "[2001:db8::1]/scm/prj/app",
		"http://[2001:DB8::1]:8080/scm/prj/app":         "[2001:db8::1]:8080/scm/prj/app",
	} {
		got, err := NormalizeURL(address)
		if err != nil || got != want {
			t.Errorf("%s is %q, want %q: %v", address, got, want, err)
		}
	}
}

func TestAddressesThatAreNoRepositories(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"", "app", "acme/app", "/srv/git/app.git", "./app.git", "file:///srv/git/app.git", "ftp://bb.example/app", "https://", "https:///acme/app", "https://bitbucket.org", "https://bitbucket.org/",
		"https://bitbucket.org/acme/app?x=1", "https://bitbucket.org/acme/app?", "https://bitbucket.org/acme/app#main", "https://bitbucket.org/acme/app#", "https://bitbucket.org/acme%2fapp", "https://bitbucket.org/acme/../evil/app",
		"https://bitbucket.org/acme//app", "https://bitbucket.org/./acme/app", "https://bitbucket.org/acme/a\\b", "https://bitbucket.org/acme/a b", "https://bitbucket.org/acme/a@b", "ada:x@bitbucket.org/acme/app", "https://bitbucket.org/acme/app\n", "https://bitbucket.org:port/acme/app",
		"git@bitbucket.org:", "git@:acme/app", "git@bitbucket.org:../acme/app", "https://bit bucket.org/acme/app", "javascript:alert(1)/..", "https://bitbucket.org/.git", "https://[::1/acme/app",
	} {
		if got, err := NormalizeURL(address); err == nil {
			t.Errorf("%q is read as %q", address, got)
		} else if address != "" && strings.Contains(err.Error(), address) {
			t.Errorf("the error repeats the address: %v", err)
		}
	}
}

// FuzzNormalizeURL: what was normalized stays as it is, and names one host and path.
func FuzzNormalizeURL(f *testing.F) {
	for _, address := range []string{"https://ada:x@bitbucket.org/acme/app.git", "git@bitbucket.org:acme/app.git", "ssh://git@bb.example:7999/prj/app.git", "https://[::1]:1/a/b"} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		got, err := NormalizeURL(address)
		if err != nil {
			if got != "" {
				t.Errorf("%q: %q and %v", address, got, err)
			}
			return
		}
		if strings.Contains(got, "@") && !strings.Contains(address[strings.IndexAny(address, ":/"):], "@") {
			t.Errorf("%q is read as %q with a user", address, got)
		}
		scheme := "https://"
		if strings.Contains(got, ":443/") { // the port of https, which another scheme needs
			scheme = "ssh://"
		}
		again, err := NormalizeURL(scheme + got)
		if err != nil || again != got {
			t.Errorf("%q is read as %q, and that as %q: %v", address, got, again, err)
		}
	})
}
