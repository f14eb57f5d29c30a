package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// searchSecrets searches everything that the server wrote (its log, all audit tables, its
// data directory) for every secret of the fixture.
func (w *fixture) searchSecrets() {
	w.t.Helper()
	w.mu.Lock()
	needles := make([][]byte, 0, 16*len(w.secrets))
	for _, secret := range w.secrets {
		needles = append(needles, forms(secret)...)
	}
	w.mu.Unlock()
	if w.database != nil && !w.database.holdsPassword() {
		w.t.Error("the planted password was not in use")
	}
	look := func(where string, text []byte) {
		if found := search(text, needles); found != "" {
			w.t.Errorf("%s holds a secret, in the form %q", where, found)
		}
	}
	look("the log", []byte(w.log.text()))
	for _, sql := range []string{
		`SELECT e::text AS row, convert_from(audit.record(e), 'UTF8') AS record FROM audit.events e`,
		`SELECT p::text AS row, encode(content, 'escape') AS content FROM audit.policies p`,
	} {
		rows, err := w.tryQuery(sql)
		if err != nil && (w.database == nil || w.t.Failed()) {
			break // the database has ended with its server; its files are checked below
		}
		if err != nil {
			w.t.Errorf("search the tables: %v", err)
		}
		for _, row := range rows {
			for column, value := range row {
				look("the audit log's "+column, []byte(value.(string)))
			}
		}
	}
	err := filepath.WalkDir(w.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		look(path, content)
		return err
	})
	if err != nil {
		w.t.Errorf("search the data directory: %v", err)
	}
}

// forms are the encodings of a secret: literal, as in a URL, in hexadecimal, and within
// base64, where it begins at any of three offsets. Of a token only the signature is
// secret: claims are recorded.
func forms(secret string) [][]byte {
	if i := strings.LastIndexByte(secret, '.'); i >= 0 && len(secret)-i > 64 {
		secret = secret[i+1:][:64]
	}
	list := [][]byte{[]byte(secret), []byte(url.QueryEscape(secret)), []byte(hex.EncodeToString([]byte(secret)))}
	for shift := range 3 {
		padded := append(bytes.Repeat([]byte{0}, shift), secret...)
		padded = padded[:len(padded)/3*3]
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			list = append(list, []byte(encoding.EncodeToString(padded)[4:])) // the first four hold the padding
		}
	}
	return list
}

func search(text []byte, needles [][]byte) string {
	for _, needle := range needles {
		if bytes.Contains(text, needle) {
			return string(needle)
		}
	}
	return ""
}

// TestSearchFinds shows that the search for secrets would find one.
func TestSearchFinds(t *testing.T) {
	token := "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0." + strings.Repeat("aB3_-x", 40)
	password := "s3cret-of-the-writer"
	for name, text := range map[string]string{
		"token":           "msg=" + token,
		"cut token":       token[:120],
		"basic":           "Basic " + base64.StdEncoding.EncodeToString([]byte("step:"+token)),
		"another user":    "Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+token)),
		"and another":     "Basic " + base64.StdEncoding.EncodeToString([]byte("x-token-auth:"+token)),
		"URL":             "http://step:" + url.QueryEscape(token) + "@127.0.0.1",
		"bytea":           `\x` + hex.EncodeToString([]byte(token)),
		"password":        "postgres://writer:" + password + "@/db",
		"password base64": base64.URLEncoding.EncodeToString([]byte("user:" + password)),
	} {
		if search([]byte(text), append(forms(token), forms(password)...)) == "" {
			t.Errorf("%s: not found", name)
		}
	}
	if found := search([]byte("nothing here"), append(forms(token), forms(password)...)); found != "" {
		t.Errorf("found %q where nothing is", found)
	}
}
