package agent

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/webhook"
)

// jenkins stands in for a Jenkins with the Bitbucket Branch Source plugin, whose hook it
// imitates: POST to bitbucket-scmsource-hook/notify with an X-Event-Key; the signature,
// over the raw body, has an algorithm and is compared in constant time; a missing or wrong
// signature is 403, one that is not hexadecimal 400.
type jenkins struct {
	secret string
	server *httptest.Server

	mu     sync.Mutex
	builds []build
	status int // 0: 200
	hold   chan struct{}
}

type build struct {
	delivery, attempt, repository string
}

const jenkinsSecret = "of the webhook"

func newJenkins(t testing.TB) *jenkins {
	t.Helper()
	j := &jenkins{secret: jenkinsSecret}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bitbucket-scmsource-hook/notify", j.notify)
	j.server = httptest.NewServer(mux)
	t.Cleanup(func() {
		j.server.CloseClientConnections()
		j.server.Close()
	})
	return j
}

func (j *jenkins) url() string { return j.server.URL + "/bitbucket-scmsource-hook/notify" }

func (j *jenkins) notify(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("X-Event-Key") == "" {
		http.Error(w, "X-Event-Key HTTP header not found", http.StatusBadRequest)
		return
	}
	algorithm, digits, _ := strings.Cut(r.Header.Get("X-Hub-Signature"), "=")
	signature, err := hex.DecodeString(digits)
	if err != nil {
		http.Error(w, "signature is not hexadecimal", http.StatusBadRequest)
		return
	}
	mac := hmac.New(sha256.New, []byte(j.secret))
	mac.Write(body)
	if algorithm != "sha256" || !hmac.Equal(signature, mac.Sum(nil)) {
		http.Error(w, "signature verification failed", http.StatusForbidden)
		return
	}
	var push struct {
		Repository struct {
			FullName string `json:"full_name"`
		} `json:"repository"`
	}
	if err := json.Unmarshal(body, &push); err != nil {
		http.Error(w, "not a payload", http.StatusBadRequest)
		return
	}
	j.mu.Lock()
	status, hold := j.status, j.hold
	j.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.builds = append(j.builds, build{r.Header.Get("Sallyport-Delivery"), r.Header.Get("Sallyport-Attempt"), push.Repository.FullName})
}

func (j *jenkins) set(status int, hold chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status, j.hold = status, hold
}

func (j *jenkins) all() []build {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]build(nil), j.builds...)
}

// pushOf is the body and header of a push as Bitbucket Cloud sends it.
func pushOf(t testing.TB, repository string) (http.Header, string) {
	t.Helper()
	body := `{"repository": {"full_name": "` + repository + `"}, "push": {"changes": []}}`
	secret, err := webhook.NewSecret(jenkinsSecret)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "Bitbucket-Webhooks/2.0")
	h.Set("X-Event-Key", "repo:push")
	h.Set("X-Hub-Signature", secret.Sign([]byte(body)).String())
	return h, body
}

// startAgent runs an agent, and returns a function that stops it and waits for its end.
func startAgent(t testing.TB, g *gateway, credential, to string) (stop func()) {
	t.Helper()
	client, err := NewClient(ClientConfig{Server: g.http.URL, Credential: func() (string, error) { return credential, nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Config{Client: client, To: to, DrainTimeout: 1}) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the agent ended: %v", err)
			}
			client.Close()
		})
	}
	t.Cleanup(stop)
	return stop
}
