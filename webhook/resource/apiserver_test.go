package resource

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// apiServer is a stand-in for a Kubernetes API server. It judges requests in the order of
// the real one: authentication, authorization, resource, content type, object, content,
// conflict (kubernetes.io: authorization; api-concepts).
type apiServer struct {
	*httptest.Server

	mu       sync.Mutex
	token    string
	rules    map[string]bool // "patch warehouses.kargo.akuity.io kargo-demo"
	served   map[string]bool // "/apis/kargo.akuity.io/v1alpha1 warehouses"
	objects  map[string]*object
	version  int
	patches  []string // path and annotation, as applied
	requests int
	// conflicts is how many patches meet a change of another client.
	conflicts int
	pageSize  int
}

type object struct {
	name        string
	labels      map[string]string
	annotations map[string]string
	phase       string
	steps       []string
	currentStep int
	version     int
}

func newAPIServer(t testing.TB) *apiServer {
	s := &apiServer{token: "token-0123456789", rules: map[string]bool{}, served: map[string]bool{}, objects: map[string]*object{}, pageSize: 2}
	for _, name := range Presets() {
		o := presets[name]
		root := strings.TrimSuffix(o.path(""), "/namespaces//"+o.Resource)
		s.served[root+" "+o.Resource] = true
		for _, verb := range []string{"patch", "list"} {
			s.rules[verb+" "+o.groupResource()+" kargo-demo"] = true
		}
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// add creates an object of a preset.
func (s *apiServer) add(preset, name, phase string, labels map[string]string) *object {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := presets[preset]
	o.Namespace = "kargo-demo"
	s.version++
	created := &object{name: name, labels: labels, annotations: map[string]string{"kept": "yes"}, phase: phase, version: s.version}
	s.objects[o.path(name)] = created
	return created
}

// waiting creates a promotion in a step.
func (s *apiServer) waiting(name, phase string, labels map[string]string, currentStep int, steps ...string) {
	o := s.add(KargoPromotion, name, phase, labels)
	s.mu.Lock()
	defer s.mu.Unlock()
	o.steps, o.currentStep = steps, currentStep
}

func (s *apiServer) state() (patches []string, requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.patches), s.requests
}

var resourcePath = regexp.MustCompile(`^(/api/v1|/apis/[^/]+/[^/]+)/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?$`)

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	status, body := s.serve(r)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (s *apiServer) serve(r *http.Request) (int, any) {
	if r.Header.Get("Authorization") != "Bearer "+s.token {
		return failure(http.StatusUnauthorized, "Unauthorized "+r.Header.Get("Authorization"))
	}
	parts := resourcePath.FindStringSubmatch(r.URL.Path)
	if parts == nil {
		return failure(http.StatusForbidden, "forbidden")
	}
	root, namespace, plural, name := parts[1], parts[2], parts[3], parts[4]
	verb := map[string]string{http.MethodPatch: "patch", http.MethodGet: "get"}[r.Method]
	if verb == "get" && name == "" {
		verb = "list"
	}
	group := strings.Split(strings.TrimPrefix(root, "/apis/"), "/")[0]
	if !s.rules[verb+" "+plural+"."+group+" "+namespace] {
		return failure(http.StatusForbidden, `User "system:serviceaccount:x:y" cannot `+verb)
	}
	if !s.served[root+" "+plural] {
		return failure(http.StatusNotFound, "the server could not find the requested resource")
	}
	if verb == "list" {
		return s.list(r.URL.Path, r.URL.Query())
	}
	return s.patch(r, name)
}

func (s *apiServer) list(path string, query url.Values) (int, any) {
	selected := []string{}
	for at, o := range s.objects {
		if strings.HasPrefix(at, path+"/") && selects(query.Get("labelSelector"), o.labels) {
			selected = append(selected, at)
		}
	}
	slices.Sort(selected)
	from, _ := strconv.Atoi(query.Get("continue"))
	to := min(from+s.pageSize, len(selected))
	metadata := map[string]any{"resourceVersion": strconv.Itoa(s.version)}
	if to < len(selected) {
		metadata["continue"] = strconv.Itoa(to)
	}
	items := []any{}
	for _, at := range selected[from:to] {
		items = append(items, s.objects[at].json())
	}
	return http.StatusOK, map[string]any{"kind": "List", "metadata": metadata, "items": items}
}

// selects is for equality-based selectors.
func selects(selector string, labels map[string]string) bool {
	for term := range strings.SplitSeq(selector, ",") {
		if key, value, ok := strings.Cut(term, "="); ok && labels[key] != value {
			return false
		}
	}
	return true
}

func (s *apiServer) patch(r *http.Request, name string) (int, any) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/merge-patch+json" {
		return failure(http.StatusUnsupportedMediaType, "the body of the request was in an unknown format")
	}
	o := s.objects[r.URL.Path]
	if o == nil {
		return failure(http.StatusNotFound, name+" not found")
	}
	var patch struct {
		Metadata struct {
			Annotations     map[string]any `json:"annotations"`
			ResourceVersion string         `json:"resourceVersion"`
		} `json:"metadata"`
	}
	body, _ := io.ReadAll(r.Body)
	if err := json.Unmarshal(body, &patch); err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	merged := maps.Clone(o.annotations)
	for key, value := range patch.Metadata.Annotations {
		switch text, ok := value.(string); {
		case value == nil:
			delete(merged, key)
		case !ok || !annotationForm.MatchString(key):
			return failure(http.StatusUnprocessableEntity, "metadata.annotations: Invalid value")
		default:
			merged[key] = text
		}
	}
	if s.conflicts > 0 || patch.Metadata.ResourceVersion != "" && patch.Metadata.ResourceVersion != strconv.Itoa(o.version) {
		s.conflicts--
		return failure(http.StatusConflict, "the object has been modified")
	}
	if !maps.Equal(merged, o.annotations) {
		s.version++
		o.version, o.annotations = s.version, merged
	}
	s.patches = append(s.patches, name)
	return http.StatusOK, o.json()
}

func (o *object) json() map[string]any {
	steps := []any{}
	for _, uses := range o.steps {
		steps = append(steps, map[string]any{"uses": uses, "config": map[string]any{"repoURL": "https://bitbucket.org/acme/deploy"}})
	}
	status := map[string]any{"phase": o.phase}
	if o.currentStep != 0 { // omitempty in Kargo's type
		status["currentStep"] = o.currentStep
	}
	return map[string]any{
		"metadata": map[string]any{"name": o.name, "labels": o.labels, "annotations": o.annotations, "resourceVersion": strconv.Itoa(o.version)},
		"spec":     map[string]any{"steps": steps},
		"status":   status,
	}
}

func failure(status int, message string) (int, any) {
	return status, map[string]any{"kind": "Status", "status": "Failure", "message": message, "code": status}
}

// target returns a target of the server, as a preset selects it.
func (s *apiServer) target(t testing.TB, preset string, change func(*KubernetesConfig)) *Kubernetes {
	t.Helper()
	o, ok := Preset(preset)
	if !ok {
		t.Fatal(preset)
	}
	o.Namespace = "kargo-demo"
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := KubernetesConfig{Server: u, Dial: (&net.Dialer{}).DialContext, RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, Object: o}
	c.Token = func() (string, error) { return "token-0123456789", nil }
	if change != nil {
		change(&c)
	}
	k, err := NewKubernetes(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func (o *object) annotation(s *apiServer, key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(o.annotations[key])
}
