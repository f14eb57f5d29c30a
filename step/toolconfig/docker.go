package toolconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// dockerProxies is the part of the docker client's config.json, for containers.
func (s *Settings) dockerProxies() string {
	url := "http://" + s.Containers.String()
	text, err := json.Marshal(map[string]string{"httpProxy": url, "httpsProxy": url, "allProxy": url, "noProxy": strings.Join(s.noProxy(), ",")})
	if err != nil {
		panic(err) // a map of strings
	}
	return string(text)
}

type object = map[string]json.RawMessage

// insertDockerProxies sets the keys of proxies.default, and keeps every other key.
func insertDockerProxies(old []byte, exists bool, content string) ([]byte, error) {
	root, proxies, byDefault, err := dockerObjects(old, exists)
	if err != nil {
		return nil, err
	}
	var ours object
	if err := json.Unmarshal([]byte(content), &ours); err != nil {
		return nil, err
	}
	maps.Copy(byDefault, ours)
	return encodeDocker(root, proxies, byDefault)
}

// removeDockerProxies gives the keys that still have our values those of the original:
// docker login writes this file too.
func removeDockerProxies(current, original []byte, content string) ([]byte, error) {
	root, proxies, byDefault, err := dockerObjects(current, true)
	if err != nil {
		return nil, err
	}
	_, _, before, err := dockerObjects(original, len(original) > 0)
	if err != nil {
		return nil, err
	}
	var ours map[string]any
	if err := json.Unmarshal([]byte(content), &ours); err != nil {
		return nil, err
	}
	for key, value := range ours {
		var now any
		if err := json.Unmarshal(byDefault[key], &now); err != nil || !reflect.DeepEqual(now, value) {
			continue // it was changed: it remains
		}
		if was, existed := before[key]; existed {
			byDefault[key] = was
		} else {
			delete(byDefault, key)
		}
	}
	return encodeDocker(root, proxies, byDefault)
}

// dockerObjects reads the objects on the path to proxies.default. Missing ones are empty.
func dockerObjects(text []byte, exists bool) (root, proxies, byDefault object, err error) {
	root, proxies, byDefault = object{}, object{}, object{}
	if !exists || len(bytes.TrimSpace(text)) == 0 {
		return root, proxies, byDefault, nil
	}
	read := func(text []byte, what string, into *object) error {
		if err := json.Unmarshal(text, into); err != nil {
			return fmt.Errorf("%s is not a JSON object: %w: correct the file", what, err)
		}
		if *into == nil {
			*into = object{} // null
		}
		return nil
	}
	if err := read(text, "the file", &root); err != nil {
		return nil, nil, nil, err
	}
	for key := range root {
		if key != "proxies" && strings.EqualFold(key, "proxies") {
			return nil, nil, nil, fmt.Errorf("the file has the key %q: write proxies", key)
		}
	}
	if inner, ok := root["proxies"]; ok {
		if err := read(inner, "proxies", &proxies); err != nil {
			return nil, nil, nil, err
		}
	}
	if inner, ok := proxies["default"]; ok {
		if err := read(inner, "proxies.default", &byDefault); err != nil {
			return nil, nil, nil, err
		}
	}
	return root, proxies, byDefault, nil
}

// encodeDocker writes the objects as the docker client does: indented by a tab. Objects
// that are empty are left out.
func encodeDocker(root, proxies, byDefault object) ([]byte, error) {
	if err := setOrDelete(proxies, "default", byDefault); err != nil {
		return nil, err
	}
	if err := setOrDelete(root, "proxies", proxies); err != nil {
		return nil, err
	}
	return encodeObject(root, "\t")
}

func setOrDelete(in object, key string, value object) error {
	if len(value) == 0 {
		delete(in, key)
		return nil
	}
	text, err := encodeObject(value, "")
	if err != nil {
		return err
	}
	in[key] = text
	return nil
}

func encodeObject(value object, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(value); err != nil {
		return nil, errors.Join(errors.New("the file cannot be encoded"), err)
	}
	return slices.Clip(b.Bytes()), nil
}
