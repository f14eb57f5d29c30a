package resource

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Object selects the objects to annotate, and the annotation.
type Object struct {
	APIVersion string // group/version, or v1 for the core group
	Resource   string // the plural, as in a rule of RBAC: warehouses
	Namespace  string
	// Name is of one object; empty: all that Selector selects.
	Name string
	// Selector is a label selector; empty: all objects of the namespace.
	Selector string
	// Annotation is the key, Value the value. An empty Value is a time stamp that differs
	// from all earlier ones.
	Annotation, Value string
	// WaitingStep limits the objects of a list to those that wait in this step: status.phase
	// is Running, and spec.steps[status.currentStep].uses is the step. Empty: no limit.
	WaitingStep string
}

// The presets: objects of controllers that read Git repositories.
const (
	KargoWarehouse    = "kargo_warehouse"
	KargoPromotion    = "kargo_promotion"
	ArgoCDApplication = "argocd_application"
	FluxGitRepository = "flux_git_repository"
)

var presets = map[string]Object{
	// Any change of the value is a request (docs.kargo.io, annotations).
	KargoWarehouse: {APIVersion: "kargo.akuity.io/v1alpha1", Resource: "warehouses", Annotation: "kargo.akuity.io/refresh"},
	// Only a running promotion in this step waits for a pull request, and reads its state when
	// it is refreshed (akuity/kargo, pkg/webhook/external: the same selection).
	KargoPromotion: {
		APIVersion: "kargo.akuity.io/v1alpha1", Resource: "promotions", Annotation: "kargo.akuity.io/refresh",
		WaitingStep: "git-wait-for-pr",
	},
	// normal or hard; the controller removes the annotation (argo-cd.readthedocs.io,
	// annotations and labels).
	ArgoCDApplication: {APIVersion: "argoproj.io/v1alpha1", Resource: "applications", Annotation: "argocd.argoproj.io/refresh", Value: "normal"},
	// A value other than status.lastHandledReconcileAt is a request (fluxcd.io, triggering a
	// reconcile).
	FluxGitRepository: {APIVersion: "source.toolkit.fluxcd.io/v1", Resource: "gitrepositories", Annotation: "reconcile.fluxcd.io/requestedAt"},
}

// Presets returns the names of the presets, sorted.
func Presets() []string {
	return []string{ArgoCDApplication, FluxGitRepository, KargoPromotion, KargoWarehouse}
}

// Preset returns the object of a preset without its place; false: there is no such preset.
func Preset(name string) (Object, bool) {
	o, ok := presets[name]
	return o, ok
}

var (
	apiVersionForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?v[a-z0-9]{1,30}$`)
	resourceForm   = regexp.MustCompile(`^[a-z][a-z0-9]{0,62}$`)
	labelForm      = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	nameForm       = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	annotationForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)
	selectorForm   = regexp.MustCompile(`^[A-Za-z0-9_./()=!, -]{1,500}$`)
)

// The checks of an object's parts. Each returns an error that states the form.

// CheckAPIVersion checks a group and version.
func CheckAPIVersion(text string) error {
	return form(apiVersionForm, text, "write group/version, such as kargo.akuity.io/v1alpha1")
}

// CheckResource checks the plural of a kind.
func CheckResource(text string) error {
	return form(resourceForm, text, "write the plural in lower case, as in a rule of RBAC: warehouses")
}

// CheckNamespace checks the name of a namespace (RFC 1123 label).
func CheckNamespace(text string) error {
	return form(labelForm, text, "write the name of one namespace: lower-case letters, digits and -")
}

// CheckName checks the name of an object (RFC 1123 subdomain).
func CheckName(text string) error {
	if !isName(text) {
		return errors.New("write the name of one object: lower-case letters, digits, dots and -")
	}
	return nil
}

// CheckSelector checks the characters of a label selector; the API server checks the rest.
func CheckSelector(text string) error {
	return form(selectorForm, text, "write a label selector such as app=web,tier!=test")
}

// CheckAnnotation checks the key of an annotation.
func CheckAnnotation(text string) error {
	return form(annotationForm, text, "write the key of an annotation, such as kargo.akuity.io/refresh")
}

func form(r *regexp.Regexp, text, want string) error {
	if !r.MatchString(text) {
		return errors.New(want)
	}
	return nil
}

func isName(text string) bool { return len(text) <= 253 && nameForm.MatchString(text) }

func (o *Object) check() error {
	errs := []error{CheckAPIVersion(o.APIVersion), CheckResource(o.Resource), CheckNamespace(o.Namespace), CheckAnnotation(o.Annotation)}
	if o.Name != "" {
		errs = append(errs, CheckName(o.Name))
	}
	if o.Selector != "" {
		errs = append(errs, CheckSelector(o.Selector))
	}
	if o.Name != "" && o.Selector != "" {
		errs = append(errs, errors.New("give a name or a label selector"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("kubernetes object: %w", err)
	}
	return nil
}

// path is that of an object, or of the list if name is empty.
func (o *Object) path(name string) string {
	root := "/apis/"
	if !strings.Contains(o.APIVersion, "/") {
		root = "/api/"
	}
	path := root + o.APIVersion + "/namespaces/" + o.Namespace + "/" + o.Resource
	if name != "" {
		path += "/" + name
	}
	return path
}

// groupResource is the resource as a rule of RBAC names it.
func (o *Object) groupResource() string {
	group, _, ok := strings.Cut(o.APIVersion, "/")
	if !ok {
		return o.Resource
	}
	return o.Resource + "." + group
}

// patch is the JSON merge patch (RFC 7396) that sets the annotation and nothing else.
func (o *Object) patch(now time.Time) []byte {
	value := o.Value
	if value == "" {
		value = now.UTC().Format(time.RFC3339Nano)
	}
	// A map of strings always has a JSON form.
	body, _ := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{o.Annotation: value}}})
	return body
}
