package bitbuckettest

import "net/http"

// getDiscovery answers /.well-known/openid-configuration. What is in it is what
// the tests of Teleport's bitbucket join method copied from a real one.
func (s *Server) getDiscovery(c *call) answer {
	s.mu.Lock()
	w := s.findWorkspace(c.args[0])
	missing := w == nil || w.disabled
	s.mu.Unlock()
	if missing {
		return failure(http.StatusNotFound, "No OpenID Connect provider for workspace '%s'.", c.args[0])
	}
	issuer := w.Issuer()
	return answer{status: http.StatusOK, body: map[string]any{
		"issuer":   issuer,
		"jwks_uri": issuer + "/keys.json",
		"claims_supported": []string{
			"sub", "iss", "aud", "exp", "iat", "branchName", "compliant", "deploymentEnvironmentUuid",
			"pipelineUuid", "repositoryUuid", "stepUuid", "workspaceUuid",
		},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"response_types_supported":              []string{"id_token"},
		"scopes_supported":                      []string{"openid"},
		"subject_types_supported":               []string{"public"},
	}}
}

// getKeys answers /keys.json, a JSON Web Key Set (RFC 7517).
func (s *Server) getKeys(c *call) answer {
	s.mu.Lock()
	w := s.findWorkspace(c.args[0])
	missing := w == nil || w.disabled
	s.mu.Unlock()
	if missing {
		return failure(http.StatusNotFound, "No OpenID Connect provider for workspace '%s'.", c.args[0])
	}
	keys := []map[string]any{}
	for _, k := range w.Keys() {
		keys = append(keys, k.JWK())
	}
	return answer{status: http.StatusOK, body: map[string]any{"keys": keys}}
}
