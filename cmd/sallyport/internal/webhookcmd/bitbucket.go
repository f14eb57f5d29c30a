package webhookcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
)

// defaultAPI is the REST API of Bitbucket Cloud.
const defaultAPI = "https://api.bitbucket.org/2.0"

const (
	apiTimeout  = 20 * time.Second // of one request
	maxAnswer   = 1 << 20          // bytes
	maxHookPage = 10               // pages of hooks that are read: a repository has at most 50 hooks
)

// hookAPI makes and changes webhooks of one repository through Bitbucket Cloud's REST API.
// Source: developer.atlassian.com/cloud/bitbucket/rest/api-group-repositories, hooks.
type hookAPI struct {
	client *http.Client
	hooks  string // URL of the repository's hooks
	token  string
}

// hookFields are what a request sets. A nil field is left as it is.
type hookFields struct {
	Description string   `json:"description,omitempty"`
	URL         string   `json:"url,omitempty"`
	Active      *bool    `json:"active,omitempty"`
	Secret      string   `json:"secret,omitempty"`
	Events      []string `json:"events,omitempty"`
}

// registered is a webhook as the API returns it. It never returns the secret.
type registered struct {
	UUID      string   `json:"uuid"`
	URL       string   `json:"url"`
	Events    []string `json:"events"`
	SecretSet bool     `json:"secret_set"`
}

// newHookAPI returns the API of a repository, by its full name or UUID. base may be empty:
// that of the configuration, or Bitbucket's.
func newHookAPI(cfg *config.Config, base, tokenFile, repository string) (*hookAPI, error) {
	text, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the access token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return nil, fmt.Errorf("read the access token: %s does not hold one line with a token", tokenFile)
	}
	workspace, slug, named := strings.Cut(repository, "/")
	if base == "" {
		base = configuredAPI(cfg, workspace)
	}
	if _, err := bitbucketapi.ParseURL(base); err != nil {
		return nil, fmt.Errorf("--api: %w", err)
	}
	switch {
	case named:
	case uuid.IsCanonical(repository):
		workspace, slug = "{}", "{"+repository+"}"
	default:
		return nil, fmt.Errorf("the repository %s is neither workspace/name nor a UUID", printable.Quote(repository))
	}
	return &hookAPI{
		client: &http.Client{Transport: bitbucketapi.NewTransport(), Timeout: apiTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		hooks:  base + "/repositories/" + url.PathEscape(workspace) + "/" + url.PathEscape(slug) + "/hooks", token: token,
	}, nil
}

// configuredAPI returns the API of a workspace's section, or of the only one.
func configuredAPI(cfg *config.Config, workspace string) string {
	if cfg != nil {
		for _, w := range cfg.Identity.Bitbucket {
			if w.API != nil && (w.Workspace == workspace || len(cfg.Identity.Bitbucket) == 1) {
				return w.API.URL.String()
			}
		}
	}
	return defaultAPI
}

// create makes a webhook.
func (a *hookAPI) create(ctx context.Context, f hookFields) (h registered, err error) {
	return h, a.do(ctx, http.MethodPost, a.hooks, f, &h)
}

// setSecret changes the secret of a webhook and nothing else.
func (a *hookAPI) setSecret(ctx context.Context, h registered, secret string) error {
	return a.do(ctx, http.MethodPut, a.hooks+"/"+url.PathEscape(h.UUID), hookFields{URL: h.URL, Events: h.Events, Secret: secret}, &h)
}

// findByPath returns the webhook whose URL has this path.
func (a *hookAPI) findByPath(ctx context.Context, path string) (registered, error) {
	next := a.hooks + "?pagelen=100"
	for range maxHookPage {
		var page struct {
			Values []registered `json:"values"`
			Next   string       `json:"next"`
		}
		if err := a.do(ctx, http.MethodGet, next, nil, &page); err != nil {
			return registered{}, err
		}
		for _, h := range page.Values {
			if u, err := url.Parse(h.URL); err == nil && u.Path == path {
				return h, nil
			}
		}
		if page.Next == "" {
			break
		}
		if !bitbucketapi.SameHost(page.Next, a.hooks) { // it would get the token
			return registered{}, errors.New("list webhooks: the next page is on another host")
		}
		next = page.Next
	}
	return registered{}, fmt.Errorf("find the webhook: the repository has none whose URL ends in the path %s: make it in Bitbucket, or name its repository with --repository", path)
}

// do sends one request. Errors never contain the token or the secret.
func (a *hookAPI) do(ctx context.Context, method, address string, body, answer any) error {
	operation := map[string]string{http.MethodPost: "create the webhook", http.MethodPut: "change the webhook", http.MethodGet: "list webhooks"}[method]
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%s: %w", operation, err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: read the response: %w", operation, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: Bitbucket responds with status %d: %s%s", operation, resp.StatusCode, apiMessage(text), apiRemedy[resp.StatusCode])
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s: the response is not JSON: %w", operation, err)
	}
	return nil
}

var apiRemedy = map[int]string{
	http.StatusUnauthorized: ": use an access token of the workspace, project or repository",
	http.StatusForbidden:    ": the access token needs the scope webhook (read:webhook:bitbucket and write:webhook:bitbucket), and the scope of each event: repository or pullrequest",
	http.StatusNotFound:     ": correct the repository's name, or use a token that may read it",
}

// apiMessage is the text of an error's body.
func apiMessage(body []byte) string {
	var e struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &e) != nil || e.Error.Message == "" {
		return "without a message"
	}
	return printable.Quote(e.Error.Message)
}
