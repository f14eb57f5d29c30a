package bitbuckettest

import "net/http"

// StepProxy is the proxy that runs in each step of the repository, at localhost:29418: it
// adds a credential of the repository to http:// requests to api.bitbucket.org, and refuses
// all others.
func (r *Repository) StepProxy() http.Handler {
	r.server.mu.Lock()
	credential := "step-proxy-" + r.server.newUUID()
	r.server.mu.Unlock()
	r.workspace.AddAccessToken(credential, ScopeRepository)
	return http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		if in.URL.Scheme != "http" || in.URL.Host != "api.bitbucket.org" || in.Header.Get("Authorization") != "" {
			http.Error(w, "this proxy is for http://api.bitbucket.org without a credential", http.StatusForbidden)
			return
		}
		out := in.Clone(in.Context())
		out.RequestURI = in.URL.RequestURI()
		out.Header.Set("Authorization", "Bearer "+credential)
		r.server.ServeHTTP(w, out)
	})
}
