package toolconfig

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	mavenBegin = "<!-- sallyport-step: begin (sallyport-step stop removes this element) -->"
	mavenEnd   = "<!-- sallyport-step: end -->"
)

// insertMavenProxy inserts a proxy into settings.xml. A file with an active proxy is not
// changed: which of two active proxies Maven uses differs between its versions.
func insertMavenProxy(old []byte, exists bool, content string) ([]byte, error) {
	if !exists || len(bytes.TrimSpace(old)) == 0 {
		return []byte("<settings>\n  " + proxiesElement(content) + "\n</settings>\n"), nil
	}
	at, err := scanMavenSettings(old)
	if err != nil {
		return nil, err
	}
	part := mavenPart(content)
	switch {
	case at.proxies.empty: // <proxies/>
		return splice(old, at.proxies.from, at.proxies.to, "<proxies>"+part+"</proxies>"), nil
	case at.proxies.to > 0:
		return splice(old, at.proxies.to, at.proxies.to, part), nil
	case at.settings.empty: // <settings …/>
		tag := strings.TrimSpace(strings.TrimSuffix(string(old[at.settings.from:at.settings.to]), "/>"))
		return splice(old, at.settings.from, at.settings.to, tag+">"+proxiesElement(content)+"</settings>"), nil
	default:
		return splice(old, at.settings.to, at.settings.to, proxiesElement(content)), nil
	}
}

func mavenPart(content string) string { return mavenBegin + content + mavenEnd }

func proxiesElement(content string) string {
	return mavenBegin + "<proxies>" + content + "</proxies>" + mavenEnd
}

// removeMavenProxy removes what insertMavenProxy added. If it replaced an empty element,
// an element without content remains, which Maven reads the same.
func removeMavenProxy(current, _ []byte, content string) ([]byte, error) {
	if cleaned, err := removeOnce(current, []byte(proxiesElement(content))); err == nil {
		return cleaned, nil
	}
	return removeOnce(current, []byte(mavenPart(content)))
}

func splice(old []byte, from, to int, part string) []byte {
	return append(append(bytes.Clone(old[:from]), part...), old[to:]...)
}

// tagPosition is where a start tag is.
type tagPosition struct {
	from, to int  // byte offsets; 0, 0: there is none
	empty    bool // the tag is also the end: <name/>
}

// mavenPositions are the tags between which a proxy is inserted.
type mavenPositions struct{ settings, proxies tagPosition }

// scanMavenSettings finds the places in settings.xml, or an error that states why the file
// cannot be changed.
func scanMavenSettings(text []byte) (at mavenPositions, err error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	d.CharsetReader = asciiReader
	var path []string
	active := &activeProxy{}
	for {
		from := int(d.InputOffset())
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return at, fmt.Errorf("the file is not valid XML: %w: correct the file", err)
		}
		tag := tagPosition{from: from, to: int(d.InputOffset())}
		tag.empty = bytes.HasSuffix(text[from:min(tag.to, len(text))], []byte("/>"))
		switch token := token.(type) {
		case xml.StartElement:
			path = append(path, qualifiedName(token.Name))
			if err := at.start(path, tag); err != nil {
				return at, err
			}
			active.start(shallow(path))
		case xml.CharData:
			active.text(token)
		case xml.EndElement:
			if len(path) == 0 || path[len(path)-1] != qualifiedName(token.Name) {
				return at, fmt.Errorf("the file is not valid XML: unexpected </%s>: correct the file", qualifiedName(token.Name))
			}
			if err := active.end(shallow(path)); err != nil {
				return at, err
			}
			path = path[:len(path)-1]
		}
	}
	if at.settings.to == 0 || len(path) > 0 {
		return at, errors.New("the file is not valid XML: an element is not closed, or there is no element: correct the file")
	}
	return at, nil
}

// shallow is the path of an element that matters here, and "" for a deeper one.
func shallow(path []string) string {
	if len(path) > 4 { // settings, proxies, proxy, active
		return ""
	}
	return strings.Join(path, "/")
}

func qualifiedName(name xml.Name) string {
	if name.Space != "" {
		return name.Space + ":" + name.Local
	}
	return name.Local
}

// start notes the tags of the root element and of its proxies.
func (at *mavenPositions) start(path []string, tag tagPosition) error {
	switch {
	case len(path) == 1 && (path[0] != "settings" || at.settings.to > 0):
		return fmt.Errorf("the root element is %q: want settings, without a prefix", path[0])
	case len(path) == 1:
		at.settings = tag
	case len(path) == 2 && path[1] == "proxies":
		if at.proxies.to > 0 {
			return errors.New("the file has two elements proxies: keep one of them")
		}
		at.proxies = tag
	}
	return nil
}

// activeProxy finds a proxy that is in force: <active> is true unless it is set otherwise.
type activeProxy struct {
	path, value string // of the element whose text is read
	active      bool
}

const mavenProxyPath = "settings/proxies/proxy"

func (p *activeProxy) start(path string) {
	p.path, p.value = path, ""
	if path == mavenProxyPath {
		p.active = true
	}
}

func (p *activeProxy) text(t []byte) {
	if p.path == mavenProxyPath+"/active" && len(p.value) < 100 {
		p.value += string(t)
	}
}

func (p *activeProxy) end(path string) error {
	if path == mavenProxyPath+"/active" && p.path == path {
		p.active = strings.TrimSpace(p.value) == "true"
	}
	if path == mavenProxyPath && p.active {
		return errors.New("the file has an active proxy: set its element active to false, or use --without maven")
	}
	return nil
}

// asciiReader reads an encoding that contains ASCII: what is beyond becomes "?", so that
// byte offsets remain those of the file. Only the positions of ASCII tags are used.
func asciiReader(charset string, r io.Reader) (io.Reader, error) {
	name := strings.ToLower(charset)
	if name != "us-ascii" && !strings.HasPrefix(name, "iso-8859-") && !strings.HasPrefix(name, "windows-125") {
		return nil, fmt.Errorf("encoding %q is not supported", charset)
	}
	return &questionMarks{r}, nil
}

type questionMarks struct{ r io.Reader }

func (q *questionMarks) Read(p []byte) (int, error) {
	n, err := q.r.Read(p)
	for i, c := range p[:n] {
		if c >= 0x80 {
			p[i] = '?'
		}
	}
	return n, err
}
