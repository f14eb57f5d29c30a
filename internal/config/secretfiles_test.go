package config

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// fill sets every secret and every file of a private key in a configuration, with one element
// in each list, and returns the paths.
func fill(v reflect.Value, place string, paths *[]string) {
	switch {
	case v.Type() == reflect.TypeFor[Secret]():
		*paths = append(*paths, place)
		v.Set(reflect.ValueOf(Secret{file: place}))
	case v.Kind() == reflect.String && strings.HasSuffix(place, "KeyFile"):
		*paths = append(*paths, place)
		v.SetString(place)
	case v.Type() == reflect.TypeFor[*url.URL]():
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), place, paths)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), place, paths)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fill(v.Field(i), place+"."+f.Name, paths)
			}
		}
	}
}

// TestSecretFilesAreComplete: a secret that is added to the configuration has its age in the
// metric.
func TestSecretFilesAreComplete(t *testing.T) {
	t.Parallel()
	var c Config
	var want []string
	fill(reflect.ValueOf(&c).Elem(), "", &want)
	var receivers []string // have their own metric, or none
	want = slices.DeleteFunc(want, func(p string) bool {
		of := strings.HasPrefix(p, ".Webhooks.Receivers.") || strings.HasSuffix(p, ".Previous")
		if of {
			receivers = append(receivers, p)
		}
		return of
	})
	var got []string
	keys := map[string]bool{}
	for _, f := range c.SecretFiles() {
		got = append(got, f.Path)
		if keys[f.Key] {
			t.Errorf("%s is there twice", f.Key)
		}
		keys[f.Key] = true
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) || len(want) < 12 {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, key := range []string{"listeners[0].tls.key_file", "identity.bitbucket[0].api.token_file", "webhooks.endpoints[].sign.secret_file"} {
		if !keys[key] {
			t.Errorf("no %s in %v", key, keys)
		}
	}
	var all []string
	for _, f := range c.Secrets() {
		if f.Kind != Certificate {
			all = append(all, f.Path)
		}
		if f.Kind == "" {
			t.Errorf("%s has no kind", f.Key)
		}
	}
	slices.Sort(all)
	want = append(want, receivers...)
	slices.Sort(want)
	if !slices.Equal(all, want) {
		t.Errorf("all  %q\nwant %q", all, want)
	}
	c = Config{Listeners: make([]Listener, 2), Audit: Audit{Database: Secret{env: "X"}}}
	if files := c.SecretFiles(); len(files) != 0 {
		t.Error(fmt.Sprint(files))
	}
	if all := c.Secrets(); len(all) != 1 || all[0] != (SecretFile{"audit.database_url_file", ConnectionString, "", Secret{env: "X"}}) {
		t.Error("a secret from the environment: ", all)
	}
}
