package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one thing that has to be right for an instance to be ready. It
// returns nil, or what is wrong; it must be quick and safe for concurrent use.
type Check struct {
	Name string
	Run  func() error
}

// Server answers /healthz, /readyz and /metrics.
type Server struct {
	metrics *Metrics
	http    *http.Server

	mu       sync.Mutex
	checks   []Check
	warnings []Check
	detail   map[string]func() any
}

// NewServer returns a server for these metrics, with no checks yet.
func NewServer(m *Metrics) *Server {
	s := &Server{metrics: m, detail: make(map[string]func() any)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{}))
	s.http = &http.Server{
		Handler:           notAProxy(mux),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	return s
}

// notAProxy answers a request for another host, which a client whose proxy URL
// has the wrong port sends here (RFC 9112 sections 3.2.2 and 3.2.3).
func notAProxy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect || r.URL.IsAbs() {
			http.Error(w, "sallyport: this is admin.address and not a proxy listener: write the port of a listener into the proxy's URL", http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// AddCheck adds a check to /readyz.
func (s *Server) AddCheck(name string, run func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks = append(s.checks, Check{name, run})
	slices.SortFunc(s.checks, func(a, b Check) int { return cmp.Compare(a.Name, b.Name) })
}

// AddWarning adds a check to /readyz that is reported and leaves the instance ready.
func (s *Server) AddWarning(name string, run func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warnings = append(s.warnings, Check{name, run})
}

// AddDetail adds a value to /readyz that has no effect on readiness.
func (s *Server) AddDetail(name string, read func() any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detail[name] = read
}

// Serve answers on the listener until Close.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close stops answering; what is being answered may finish until ctx is done.
func (s *Server) Close(ctx context.Context) error { return s.http.Shutdown(ctx) }

// readiness is the body of /readyz.
type readiness struct {
	Ready    bool              `json:"ready"`
	Checks   map[string]string `json:"checks"`
	Warnings map[string]string `json:"warnings,omitempty"`
	Detail   map[string]any    `json:"detail,omitempty"`
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	checks, warnings, detail := slices.Clone(s.checks), slices.Clone(s.warnings), make(map[string]any, len(s.detail))
	for name, read := range s.detail {
		detail[name] = read()
	}
	s.mu.Unlock()
	answer := readiness{Ready: true, Checks: make(map[string]string, len(checks)), Detail: detail}
	for _, c := range checks {
		if err := c.Run(); err != nil {
			answer.Ready = false
			answer.Checks[c.Name] = err.Error()
			continue
		}
		answer.Checks[c.Name] = "ok"
	}
	for _, c := range warnings {
		if err := c.Run(); err != nil {
			if answer.Warnings == nil {
				answer.Warnings = make(map[string]string)
			}
			answer.Warnings[c.Name] = err.Error()
		}
	}
	status := http.StatusOK
	if !answer.Ready {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	_ = out.Encode(answer)
}
