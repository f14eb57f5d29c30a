package doctor

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
)

// BitbucketProxy is the proxy that Bitbucket Pipelines runs in each step. It adds
// Bitbucket's credential to http:// requests to api.bitbucket.org, and to git over http.
const BitbucketProxy = "localhost:29418"

// fullName is a repository's name as Bitbucket writes it: workspace and slug.
var fullName = regexp.MustCompile(`^[A-Za-z0-9_.{}-]{1,128}/[A-Za-z0-9_.{}-]{1,128}$`)

// checkBitbucket checks that Bitbucket's proxy is reachable and adds its credential, by
// reading the step's own repository through it.
func (x *examination) checkBitbucket(ctx context.Context) {
	repository := x.environment["BITBUCKET_REPO_FULL_NAME"]
	if x.environment["BITBUCKET_BUILD_NUMBER"] == "" || repository == "" {
		x.add("Bitbucket's proxy", Skipped, "this is not a step of Bitbucket Pipelines", "")
		return
	}
	address := x.BitbucketProxy
	if address == "" {
		address = BitbucketProxy
	}
	const remedy = "remove settings that send localhost:29418 elsewhere; a self-hosted runner may lack this proxy"
	if !fullName.MatchString(repository) {
		x.warn("Bitbucket's proxy", remedy, "BITBUCKET_REPO_FULL_NAME is not the name of a repository")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		x.warn("Bitbucket's proxy", remedy, "%s: %v", address, err)
		return
	}
	conn.Close()
	client := &http.Client{Timeout: timeout, Transport: &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: address}), DisableKeepAlives: true,
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://api.bitbucket.org/2.0/repositories/"+repository+"?fields=uuid", nil)
	if err != nil {
		x.warn("Bitbucket's proxy", remedy, "%v", err)
		return
	}
	response, err := client.Do(r)
	if err != nil {
		x.warn("Bitbucket's proxy", remedy, "%s accepts connections, and does not answer a request", address)
		return
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	if response.StatusCode != http.StatusOK {
		x.warn("Bitbucket's proxy", remedy, "%s answers a request for the step's own repository with status %d", address, response.StatusCode)
		return
	}
	x.ok("Bitbucket's proxy", "%s is reachable and adds Bitbucket's credential", address)
}
