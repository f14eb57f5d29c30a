// Package bitbucket proves which step of Bitbucket Pipelines is asking.
//
// A step that declares oidc in bitbucket-pipelines.yml carries a token that its
// workspace's issuer signed. [Authenticator] turns such a token into an
// [identity.Principal], or into an [identity.Error] that states what is wrong and
// what to do. It is a strict shell around go-oidc: what can be refused without
// a key is refused before a key is looked up, keys are fetched on our terms and
// not on a token's, and every claim is read by a decoder that knows one
// spelling of each.
//
// authenticator.go makes an authenticator and authenticate.go is its entry point; run.go
// checks, refreshes and reports its state. token.go, json.go and claims.go read a token;
// verify.go, signature.go and admitted.go check it. keys.go, fetch.go, jwks.go and
// keyfile.go hold the issuers' keys. cache.go recognizes a token that was verified.
// names.go and prefetch.go find the names behind UUIDs through package bitbucketapi.
// inspect.go reports on a token and admits no step.
//
// An issuer is only ever contacted because the configuration names it, never
// because a token does (RFC 8725 section 3.10).
package bitbucket
