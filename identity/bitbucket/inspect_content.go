package bitbucket

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
)

// Content is the content of a token, true or not. UUIDs are bare and
// lower-case where they are UUIDs. Texts are escaped where they could do
// something to a terminal, and shortened.
type Content struct {
	Algorithm string `json:"alg,omitempty"`
	KeyID     string `json:"kid,omitempty"`
	Type      string `json:"typ,omitempty"`

	Issuer    string     `json:"iss,omitempty"`
	Audiences []string   `json:"aud,omitempty"`
	Subject   string     `json:"sub,omitempty"`
	Issued    *time.Time `json:"iat,omitempty"`
	NotBefore *time.Time `json:"nbf,omitempty"`
	Expires   *time.Time `json:"exp,omitempty"`

	WorkspaceUUID  string `json:"workspaceUuid,omitempty"`
	RepositoryUUID string `json:"repositoryUuid,omitempty"`
	DeploymentUUID string `json:"deploymentEnvironmentUuid,omitempty"`
	PipelineUUID   string `json:"pipelineUuid,omitempty"`
	StepUUID       string `json:"stepUuid,omitempty"`
	Branch         string `json:"branchName,omitempty"`

	Other []string `json:"other,omitempty"` // the names of further claims, which mean nothing here
}

// readContent reads what can be read, leniently: nothing is decided by it.
func readContent(raw string) *Content {
	parts := strings.Split(raw, ".")
	if len(raw) > 2*maxTokenBytes || len(parts) < 2 {
		return nil
	}
	header, payload := lenientObject(parts[0]), lenientObject(parts[1])
	if header == nil && payload == nil {
		return nil
	}
	c := &Content{
		Algorithm: shown(header, "alg"), KeyID: shown(header, "kid"), Type: shown(header, "typ"),
		Issuer: shown(payload, "iss"), Subject: shown(payload, "sub"), Branch: shown(payload, "branchName"),
		WorkspaceUUID: shownUUID(payload, "workspaceUuid"), RepositoryUUID: shownUUID(payload, "repositoryUuid"),
		DeploymentUUID: shownUUID(payload, "deploymentEnvironmentUuid"), PipelineUUID: shownUUID(payload, "pipelineUuid"),
		StepUUID: shownUUID(payload, "stepUuid"),
	}
	audiences, _ := readAudiences(payload["aud"])
	for _, a := range audiences {
		c.Audiences = append(c.Audiences, plain(a))
	}
	for name, into := range map[string]**time.Time{"iat": &c.Issued, "nbf": &c.NotBefore, "exp": &c.Expires} {
		if t, ok := parseNumericDate(payload[name]); ok {
			*into = new(t.UTC())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(payload)) {
		if !slices.Contains(claimNames, name) && len(c.Other) < 50 {
			c.Other = append(c.Other, plain(name))
		}
	}
	return c
}

var claimNames = []string{"iss", "aud", "sub", "iat", "nbf", "exp", "workspaceUuid", "repositoryUuid",
	"deploymentEnvironmentUuid", "pipelineUuid", "stepUuid", "branchName"}

func lenientObject(segment string) object {
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(segment, "="))
	var o object
	if err != nil || json.Unmarshal(data, &o) != nil {
		return nil
	}
	return o
}

func shown(o object, name string) string {
	s, ok := o.text(name)
	if raw, found := o[name]; !ok && found {
		s = string(raw) // not a string, which is worth seeing
	}
	return plain(s)
}

func shownUUID(o object, name string) string {
	if s, ok := o.text(name); ok {
		if uuid, ok := uuid.Parse(s); ok {
			return uuid
		}
	}
	return shown(o, name)
}

// plain escapes a text only where it has to be.
func plain(s string) string {
	if len(s) <= 200 && printable.IsClean(s) {
		return s
	}
	return printable.Quote(s)
}
