package toolconfig

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"
)

const mavenContent = "<proxy><host>127.0.0.1</host></proxy>"

// TestMavenInserts: each file keeps every byte outside the inserted part, remains XML with
// one proxy of ours, and is restored by removing the part.
func TestMavenInserts(t *testing.T) {
	for name, old := range map[string]string{
		"plain":          "<?xml version=\"1.0\"?>\n<settings xmlns=\"http://maven.apache.org/SETTINGS/1.0.0\">\n  <servers><server><id>a</id></server></servers>\n</settings>\n",
		"proxies":        "<settings><proxies>\n<proxy><active>false</active><host>corp</host></proxy></proxies></settings>",
		"comment":        "<settings><!-- <proxies><proxy/></proxies> --></settings>",
		"cdata":          "<settings><servers><server><password><![CDATA[</settings>]]></password></server></servers></settings>",
		"attribute":      "<settings a=\"x/>\" b='&lt;/settings>'><localRepository>/r</localRepository></settings>",
		"other proxies":  "<settings><profiles><profile><proxies><proxy/></proxies></profile></profiles></settings>",
		"latin-1":        "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><settings><localRepository>/d\xe9p\xf4t</localRepository></settings>",
		"byte order":     "\xef\xbb\xbf<settings></settings>",
		"inactive space": "<settings><proxies><proxy><active> false </active></proxy></proxies></settings>",
	} {
		t.Run(name, func(t *testing.T) {
			written, err := insertMavenProxy([]byte(old), true, mavenContent)
			if err != nil {
				t.Fatal(err)
			}
			if n := countProxies(t, written); n != 1 {
				t.Errorf("%d proxies of ours in %s", n, written)
			}
			cleaned, err := removeMavenProxy(written, nil, mavenContent)
			if err != nil || string(cleaned) != old {
				t.Errorf("removed: %q, %v", cleaned, err)
			}
			edited := strings.Replace(string(written), "</settings>", "<offline>true</offline></settings>", 1)
			if name == "cdata" || name == "attribute" {
				return
			}
			if cleaned, err = removeMavenProxy([]byte(edited), nil, mavenContent); err != nil || string(cleaned) != strings.Replace(old, "</settings>", "<offline>true</offline></settings>", 1) {
				t.Errorf("removed after an edit: %q, %v", cleaned, err)
			}
		})
	}
	for _, old := range []string{"", " \n", "<settings/>", "<settings a='b' />", "<settings><proxies/></settings>", "<settings><proxies /></settings>"} {
		written, err := insertMavenProxy([]byte(old), true, mavenContent)
		if err != nil || countProxies(t, written) != 1 {
			t.Errorf("%q: %s, %v", old, written, err)
		}
	}
}

// countProxies returns how many proxies of ours are in settings/proxies.
func countProxies(t *testing.T, text []byte) int {
	t.Helper()
	var settings struct {
		XMLName xml.Name `xml:"settings"`
		Proxies []struct {
			Proxy []struct {
				Host string `xml:"host"`
			} `xml:"proxy"`
		} `xml:"proxies"`
	}
	d := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))))
	d.CharsetReader = asciiReader
	if err := d.Decode(&settings); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	n := 0
	for _, list := range settings.Proxies {
		for _, proxy := range list.Proxy {
			if proxy.Host == "127.0.0.1" {
				n++
			}
		}
	}
	return n
}

// TestMavenRefuses: what cannot be changed correctly is not changed, and the error names
// the cause.
func TestMavenRefuses(t *testing.T) {
	for old, want := range map[string]string{
		"<settings><proxies><proxy><host>corp</host></proxy></proxies></settings>":                      "active proxy",
		"<settings><proxies><proxy><active>true</active><host>corp</host></proxy></proxies></settings>": "active proxy",
		"<settings><proxies/><proxies/></settings>":                                                     "two elements",
		"<project></project>":                                "root element",
		"<m:settings xmlns:m='x'></m:settings>":              "without a prefix",
		"<settings>":                                         "not closed",
		"<settings></other>":                                 "not valid XML",
		"<settings></settings></settings>":                   "not valid XML",
		"<settings></settings><settings></settings>":         "root element",
		strings.Repeat("<a>", maxFileBytes/3):                "root element",
		"<settings>" + strings.Repeat("<a>", maxFileBytes/3): "not closed", // in linear time
		"text": "not closed",
		"<!DOCTYPE s [<!ENTITY e 'x'>]><settings>&e;</settings>":                                       "not valid XML",
		"<?xml version=\"1.0\" encoding=\"UTF-16\"?><settings/>":                                       "not supported",
		"\xff\xfe<\x00s\x00e\x00t\x00t\x00i\x00n\x00g\x00s\x00/\x00>\x00":                              "not valid XML",
		"<settings><proxies><proxy><active><!-- x -->true</active></proxy></proxies></settings>":       "active proxy",
		"<settings><proxies><proxy><active>false</active></proxy><proxy></proxy></proxies></settings>": "active proxy",
	} {
		written, err := insertMavenProxy([]byte(old), true, mavenContent)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v, want an error with %q", old, written, err, want)
		}
	}
}

func TestBlocks(t *testing.T) {
	for _, old := range []string{"", "a=b\n", "a=b", "a=b\\", "a=b\\\n", "# umlaut \xe4\n"} {
		written, err := insertBlock([]byte(old), true, "x=1\n")
		if err != nil {
			t.Fatal(err)
		}
		// A continued line ends before the block.
		if !bytes.HasPrefix(written, []byte(old)) || old != "" && !bytes.Contains(written, []byte("\n\n"+blockBegin)) {
			t.Errorf("%q became %q", old, written)
		}
		if _, err := insertBlock(written, true, "x=2\n"); err == nil {
			t.Errorf("%q: two blocks", old)
		}
		edited := append(bytes.Clone(written), "later=1\n"...)
		if cleaned, err := removeBlock(edited, []byte(old), "x=1\n"); err != nil || string(cleaned) != old+"later=1\n" {
			t.Errorf("%q: removed: %q, %v", old, cleaned, err)
		}
		changed := bytes.Replace(edited, []byte("x=1"), []byte("x=3"), 1)
		if cleaned, err := removeBlock(changed, []byte(old), "x=1\n"); err == nil {
			t.Errorf("an edited block was removed: %q", cleaned)
		}
	}
}

func TestDockerProxies(t *testing.T) {
	const ours = `{"httpProxy":"http://172.17.0.1:3128","noProxy":"localhost"}`
	for _, c := range []struct{ old, edit, want string }{
		{`{}`, ``, `{}`},
		{``, ``, `{}`},
		{`null`, ``, `{}`},
		{`{"auths":{"r.example":{"auth":"eDp5"}},"n":12345678901234567890}`, ``, `{"auths":{"r.example":{"auth":"eDp5"}},"n":12345678901234567890}`},
		{`{"proxies":{"default":{"ftpProxy":"http://corp:2","httpProxy":"http://corp:1"},"tcp://d":{"httpProxy":"x"}}}`, ``, `{"proxies":{"default":{"ftpProxy":"http://corp:2","httpProxy":"http://corp:1"},"tcp://d":{"httpProxy":"x"}}}`},
		{`{}`, `auths`, `{"auths":{"r.example":{}}}`},                       // docker login
		{`{}`, `httpProxy`, `{"proxies":{"default":{"httpProxy":"mine"}}}`}, // a value that someone set
	} {
		written, err := insertDockerProxies([]byte(c.old), true, ours)
		if err != nil {
			t.Fatal(err)
		}
		var read struct {
			Proxies map[string]map[string]string
		}
		if err := json.Unmarshal(written, &read); err != nil || read.Proxies["default"]["httpProxy"] != "http://172.17.0.1:3128" || read.Proxies["default"]["noProxy"] != "localhost" {
			t.Errorf("%s became %s, %v", c.old, written, err)
		}
		switch c.edit {
		case "auths":
			written = bytes.Replace(written, []byte("{"), []byte(`{"auths":{"r.example":{}},`), 1)
		case "httpProxy":
			written = bytes.Replace(written, []byte("http://172.17.0.1:3128"), []byte("mine"), 1)
		}
		cleaned, err := removeDockerProxies(written, []byte(c.old), ours)
		var compact bytes.Buffer
		if err != nil || json.Compact(&compact, cleaned) != nil || compact.String() != c.want {
			t.Errorf("%s after %q: %s, %v, want %s", c.old, c.edit, cleaned, err, c.want)
		}
	}
	for _, old := range []string{`[]`, `{`, `{"proxies":[]}`, `{"proxies":{"default":"x"}}`, `{"Proxies":{}}`, `{} {}`} {
		if written, err := insertDockerProxies([]byte(old), true, ours); err == nil {
			t.Errorf("%s was accepted: %s", old, written)
		}
	}
}

// FuzzMaven: a file is refused, or remains the same but for one inserted part.
func FuzzMaven(f *testing.F) {
	for _, s := range []string{"<settings/>", "<settings><proxies/></settings>", "<settings><!-- x --></settings>", "<settings><proxies><proxy><active>false</active></proxy></proxies></settings>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, old []byte) {
		written, err := insertMavenProxy(old, true, mavenContent)
		if err != nil || len(bytes.TrimSpace(old)) == 0 {
			return
		}
		if at, err := scanMavenSettings(old); err != nil || at.settings.empty || at.proxies.empty {
			return
		}
		cleaned, err := removeMavenProxy(written, old, mavenContent)
		if err == nil && !bytes.Equal(cleaned, old) || err != nil && !bytes.Contains(old, []byte("sallyport-step")) {
			t.Errorf("%q became %q, %v", old, cleaned, err)
		}
		if _, err := scanMavenSettings(written); err == nil && !bytes.Contains(old, []byte("<active>")) {
			t.Errorf("%q has no active proxy", written)
		}
	})
}

// FuzzDocker: what is inserted is removed again, and other keys keep their values.
func FuzzDocker(f *testing.F) {
	f.Add([]byte(`{"auths":{},"proxies":{"default":{"httpProxy":"a"}}}`))
	f.Add([]byte(`{"a":"<>"}`))
	f.Fuzz(func(t *testing.T, old []byte) {
		const ours = `{"httpProxy":"http://172.17.0.1:3128"}`
		written, err := insertDockerProxies(old, true, ours)
		if err != nil {
			return
		}
		if _, err := removeDockerProxies(written, old, ours); err != nil {
			t.Errorf("%q: %v", written, err)
		}
	})
}
