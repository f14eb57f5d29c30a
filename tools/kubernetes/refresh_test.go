// Package kubernetes runs the refresh of resources against a real kube-apiserver with etcd.
package kubernetes

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
	"github.com/sallyport/sallyport/webhook/resource"
)

const namespace = "kargo-demo"

// newCluster has the resources of the presets, a service account with the role of
// docs/webhook-endpoints.md, and one without a role.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := start(t)
	c.must(http.MethodPost, "/api/v1/namespaces", object{"metadata": object{"name": namespace}})
	c.define("kargo.akuity.io", "v1alpha1", "Warehouse", "warehouses", true)
	c.define("kargo.akuity.io", "v1alpha1", "Promotion", "promotions", true)
	c.define("argoproj.io", "v1alpha1", "Application", "applications", false)
	c.define("source.toolkit.fluxcd.io", "v1", "GitRepository", "gitrepositories", true)
	for _, account := range []string{"sallyport", "stranger"} {
		c.must(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts", object{"metadata": object{"name": account}})
	}
	c.role("sallyport-refresh", documentedRole(t))
	c.role("sallyport-others", object{"rules": []any{
		object{"apiGroups": []any{"argoproj.io", "source.toolkit.fluxcd.io", "example.test"}, "resources": []any{"applications", "gitrepositories", "things"}, "verbs": []any{"patch", "list"}},
	}})
	return c
}

// documentedRole is the role of the page for operators.
func documentedRole(t *testing.T) object {
	t.Helper()
	page, err := os.ReadFile("../../docs/webhook-endpoints.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(apiVersion: rbac.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("docs/webhook-endpoints.md has no role")
	}
	var role object
	if err := yaml.Unmarshal(block[1], &role); err != nil {
		t.Fatal(err)
	}
	return role
}

// role creates a role and binds the account sallyport to it.
func (c *cluster) role(name string, role object) {
	c.t.Helper()
	const api = "/apis/rbac.authorization.k8s.io/v1/namespaces/" + namespace
	role["metadata"] = object{"name": name}
	c.must(http.MethodPost, api+"/roles", role)
	c.must(http.MethodPost, api+"/rolebindings", object{
		"metadata": object{"name": name}, "roleRef": object{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
		"subjects": []any{object{"kind": "ServiceAccount", "name": "sallyport", "namespace": namespace}},
	})
}

// refresh refreshes an object once with a token.
func (c *cluster) refresh(o resource.Object, token string, change func(*resource.KubernetesConfig)) dispatch.Attempt {
	c.t.Helper()
	o.Namespace = namespace
	config := resource.KubernetesConfig{
		Server: c.url, Dial: (&net.Dialer{}).DialContext, RootCAs: c.roots, Token: func() (string, error) { return token, nil }, Timeout: time.Minute, Object: o,
	}
	if change != nil {
		change(&config)
	}
	k, err := resource.NewKubernetes(config)
	if err != nil {
		c.t.Fatal(err)
	}
	defer k.Close()
	return k.Refresh(c.t.Context(), webhook.Task{})
}

func preset(t *testing.T, name string, change func(*resource.Object)) resource.Object {
	t.Helper()
	o, ok := resource.Preset(name)
	if !ok {
		t.Fatal(name)
	}
	if change != nil {
		change(&o)
	}
	return o
}

func named(name string) func(*resource.Object) { return func(o *resource.Object) { o.Name = name } }

// TestRealAPIServer: each preset sets its annotation and nothing else, with the documented
// role, and each refusal of the API server has the status and the remedy that operators see.
func TestRealAPIServer(t *testing.T) {
	c := newCluster(t)
	const kargo = "kargo.akuity.io/v1alpha1"
	steps := object{"steps": []any{object{"uses": "git-push"}, object{"uses": "git-wait-for-pr"}}}
	c.create(kargo, "Warehouse", "app", nil, object{"interval": "5m0s"}, object{"observedGeneration": 1})
	c.create("argoproj.io/v1alpha1", "Application", "shop", object{"team": "web"}, object{"project": "default"}, nil)
	c.create("source.toolkit.fluxcd.io/v1", "GitRepository", "fleet", nil, object{"interval": "1m"}, object{"observedGeneration": 1})
	c.create(kargo, "Promotion", "waits", nil, steps, object{"phase": "Running", "currentStep": 1})
	c.create(kargo, "Promotion", "pushes", nil, steps, object{"phase": "Running"})
	c.create(kargo, "Promotion", "done", nil, steps, object{"phase": "Succeeded", "currentStep": 1})
	token := c.token("sallyport")

	t.Run("presets", func(t *testing.T) { c.presets(t, token) })
	t.Run("many", func(t *testing.T) { c.many(t, token) })
	t.Run("refusals", func(t *testing.T) { c.refusals(t, token) })
}

func (c *cluster) presets(t *testing.T, token string) {
	for _, p := range []struct{ preset, kind, name, annotation, value string }{
		{resource.KargoWarehouse, "Warehouse", "app", "kargo.akuity.io/refresh", ""},
		{resource.ArgoCDApplication, "Application", "shop", "argocd.argoproj.io/refresh", "normal"},
		{resource.FluxGitRepository, "GitRepository", "fleet", "reconcile.fluxcd.io/requestedAt", ""},
	} {
		before := c.must(http.MethodGet, c.plurals[p.kind]+"/"+p.name, nil)
		if a := c.refresh(preset(t, p.preset, named(p.name)), token, nil); a.Decided != dispatch.Delivered || a.Status != http.StatusOK {
			t.Errorf("%s: %+v", p.preset, a)
			continue
		}
		first := c.annotations(p.kind, p.name)
		if got, _ := first[p.annotation].(string); got == "" || p.value != "" && got != p.value || first["kept"] != "yes" {
			t.Errorf("%s: annotations %v", p.preset, first)
		}
		after := c.must(http.MethodGet, c.plurals[p.kind]+"/"+p.name, nil)
		for _, key := range []string{"spec", "status"} {
			if fmt.Sprint(before[key]) != fmt.Sprint(after[key]) {
				t.Errorf("%s changes %s: %v, then %v", p.preset, key, before[key], after[key])
			}
		}
		if generation := func(o object) any { return o["metadata"].(object)["generation"] }; fmt.Sprint(generation(before)) != fmt.Sprint(generation(after)) {
			t.Errorf("%s changes the generation", p.preset)
		}
		if p.value == "" {
			c.refresh(preset(t, p.preset, named(p.name)), token, nil)
			if second := c.annotations(p.kind, p.name); second[p.annotation] == first[p.annotation] {
				t.Errorf("%s: a second refresh has the same value %v", p.preset, second)
			}
		}
	}
	if a := c.refresh(preset(t, resource.KargoPromotion, nil), token, nil); a.Decided != dispatch.Delivered {
		t.Errorf("promotions: %+v", a)
	}
	for name, want := range map[string]bool{"waits": true, "pushes": false, "done": false} {
		if _, got := c.annotations("Promotion", name)["kargo.akuity.io/refresh"]; got != want {
			t.Errorf("promotion %s: annotated %v, want %v", name, got, want)
		}
	}
}

// many refreshes more objects than a page of a list has.
func (c *cluster) many(t *testing.T, token string) {
	for i := range 120 {
		c.create("kargo.akuity.io/v1alpha1", "Warehouse", fmt.Sprintf("w%03d", i), object{"team": []string{"web", "data"}[i%2]}, object{}, nil)
	}
	selected := func(selector string) func(*resource.Object) {
		return func(o *resource.Object) { o.Selector = selector }
	}
	if a := c.refresh(preset(t, resource.KargoWarehouse, selected("team in (web,data)")), token, nil); a.Decided != dispatch.Delivered {
		t.Fatalf("%+v", a)
	}
	for _, name := range []string{"w000", "w099", "w100", "w119"} {
		if _, ok := c.annotations("Warehouse", name)["kargo.akuity.io/refresh"]; !ok {
			t.Errorf("%s is not annotated", name)
		}
	}
	if a := c.refresh(preset(t, resource.KargoWarehouse, selected("team in web")), token, nil); a.Status != http.StatusBadRequest {
		t.Errorf("an invalid selector: %+v", a)
	}
}

func (c *cluster) refusals(t *testing.T, token string) {
	thing := resource.Object{APIVersion: "example.test/v1", Resource: "things", Name: "x", Annotation: "example.test/refresh"}
	for name, r := range map[string]struct {
		object resource.Object
		token  string
		status int
		detail string
	}{
		"no such token":      {preset(t, resource.KargoWarehouse, named("app")), "token-0123456789", 401, "check token_file"},
		"no role":            {preset(t, resource.KargoWarehouse, named("app")), c.token("stranger"), 403, "grant the service account patch on warehouses.kargo.akuity.io in namespace kargo-demo"},
		"no role for a list": {preset(t, resource.KargoPromotion, nil), c.token("stranger"), 403, "grant the service account list on promotions.kargo.akuity.io"},
		"no object":          {preset(t, resource.KargoWarehouse, named("none")), token, 404, "check api_version, resource, namespace and name"},
		"no resource":        {thing, token, 404, "check api_version, resource, namespace and name of things.example.test"},
		"another version":    {preset(t, resource.KargoWarehouse, func(o *resource.Object) { o.Name, o.APIVersion = "app", "kargo.akuity.io/v1beta1" }), token, 404, "check api_version"},
		"a value too long":   {preset(t, resource.KargoWarehouse, func(o *resource.Object) { o.Name, o.Value = "app", strings.Repeat("v", 300<<10) }), token, 422, "check annotation and annotation_value"},
	} {
		a := c.refresh(r.object, r.token, nil)
		if a.Status != r.status || !strings.Contains(a.Detail, r.detail) || a.Decided == dispatch.Delivered {
			t.Errorf("%s: %+v, want %d with %q", name, a, r.status, r.detail)
		}
	}
	if a := c.refresh(preset(t, resource.KargoWarehouse, named("app")), token, func(k *resource.KubernetesConfig) { k.RootCAs = nil }); a.Err == nil || !strings.Contains(a.Err.Error(), "certificate") {
		t.Errorf("another authority: %+v", a)
	}
	// A token ends with its service account; the next one is read for the next refresh.
	c.must(http.MethodDelete, "/api/v1/namespaces/"+namespace+"/serviceaccounts/sallyport", nil)
	deadline := time.Now().Add(time.Minute)
	for c.refresh(preset(t, resource.KargoWarehouse, named("app")), token, nil).Status != http.StatusUnauthorized {
		if time.Now().After(deadline) {
			t.Fatal("the token of a deleted service account is accepted")
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.must(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts", object{"metadata": object{"name": "sallyport"}})
	for a := c.refresh(preset(t, resource.KargoWarehouse, named("app")), c.token("sallyport"), nil); a.Decided != dispatch.Delivered; {
		if time.Now().After(deadline) {
			t.Fatalf("a new token: %+v", a)
		}
		time.Sleep(100 * time.Millisecond)
		a = c.refresh(preset(t, resource.KargoWarehouse, named("app")), c.token("sallyport"), nil)
	}
}
