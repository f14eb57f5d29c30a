package recorded

import (
	"bytes"
	"encoding/json"
	"reflect"
	"unicode/utf8"
)

// A record of ours has one form (see audit.Event.AppendRecord): known names, no space,
// strings in which only a quotation mark and a backslash are escaped. Reading just that
// takes a tenth of what encoding/json takes. Whatever has another form is left to
// encoding/json, so that both give the same or this one gives nothing.

// scanner reads a record from its beginning. It fails once and for good.
type scanner struct {
	rest   []byte
	failed bool
	dry    bool // nothing is kept of what is read
}

func (s *scanner) take(c byte) bool {
	if s.failed || len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) want(c byte) {
	if !s.take(c) {
		s.failed = true
	}
}

// bytes reads a string without its quotation marks. escaped reports that it has escapes.
func (s *scanner) bytes() (raw []byte, escaped bool) {
	s.want('"')
	if s.failed {
		return nil, false
	}
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			raw, s.rest = s.rest[:i], s.rest[i+1:]
			if !utf8.Valid(raw) {
				s.failed = true
			}
			return raw, escaped
		case c == '\\':
			escaped = true
			if i++; i == len(s.rest) || s.rest[i] != '"' && s.rest[i] != '\\' {
				s.failed = true
				return nil, false
			}
		case c < 0x20:
			s.failed = true
			return nil, false
		}
	}
	s.failed = true
	return nil, false
}

func (s *scanner) text() string {
	raw, escaped := s.bytes()
	switch {
	case s.dry:
		return ""
	case !escaped:
		return string(raw)
	}
	b := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' {
			i++
		}
		b = append(b, raw[i])
	}
	return string(b)
}

func (s *scanner) number() (n int64) {
	i := 0
	for i < len(s.rest) && i < 18 && s.rest[i] >= '0' && s.rest[i] <= '9' {
		n = n*10 + int64(s.rest[i]-'0')
		i++
	}
	if i == 0 || i > 1 && s.rest[0] == '0' || i == len(s.rest) || s.rest[i] != ',' && s.rest[i] != '}' {
		s.failed = true // negative, fractional, too large, or no number
		return 0
	}
	s.rest = s.rest[i:]
	return n
}

func (s *scanner) truth() bool {
	for _, c := range []struct {
		text string
		is   bool
	}{{"true", true}, {"false", false}} {
		if rest, ok := bytes.CutPrefix(s.rest, []byte(c.text)); ok {
			s.rest = rest
			return c.is
		}
	}
	s.failed = true
	return false
}

func (s *scanner) list() []string {
	s.want('[')
	var list []string
	for !s.failed {
		if text := s.text(); !s.dry {
			list = append(list, text)
		}
		if s.take(']') {
			return list
		}
		s.want(',')
	}
	return nil
}

func (s *scanner) object() map[string]string {
	s.want('{')
	var m map[string]string
	if !s.dry {
		m = map[string]string{}
	}
	for !s.failed {
		name := s.text()
		s.want(':')
		if text := s.text(); !s.dry {
			m[name] = text
		}
		if s.take('}') {
			return m
		}
		s.want(',')
	}
	return nil
}

// scanRecord reads a record without its input; nil where it has another form.
func scanRecord(head []byte) *Event {
	s, r := scanner{rest: head}, new(Event)
	if !s.record(r) || len(s.rest) > 0 {
		return nil
	}
	return r
}

// record reads the fields of a record up to its end.
func (s *scanner) record(r *Event) bool {
	s.want('{')
	for !s.failed {
		name, escaped := s.bytes()
		s.want(':')
		if escaped || s.failed || !s.field(r, name) {
			return false
		}
		if s.take('}') {
			return true
		}
		s.want(',')
	}
	return false
}

// fields are the fields of Event by their names in a record.
var fields = func() map[string]fieldType {
	byName, event := make(map[string]fieldType), reflect.TypeFor[Event]()
	for i := range event.NumField() {
		byName[event.Field(i).Tag.Get("json")] = fieldType{i, event.Field(i).Type.Kind()}
	}
	return byName
}()

type fieldType struct {
	index int
	kind  reflect.Kind
}

// field reads the value of a field. It is false for a field that is not known here:
// encoding/json might match it to another.
func (s *scanner) field(r *Event, name []byte) bool {
	if f, ok := fields[string(name)]; ok {
		s.value(r, f)
		return !s.failed
	}
	switch string(name) {
	case "version":
		s.number()
	case "addresses":
		s.list()
	case "input": // which encoding/json skips as well
		end := objectEnd(s.rest)
		if !s.dry || end < 0 || s.rest[0] != '{' || !json.Valid(s.rest[:end]) {
			return false
		}
		s.rest = s.rest[end:]
	default:
		return false
	}
	return !s.failed
}

// value reads a value of the type of the field that it is for.
func (s *scanner) value(r *Event, f fieldType) {
	var field reflect.Value
	if !s.dry {
		field = reflect.ValueOf(r).Elem().Field(f.index)
	}
	switch f.kind {
	case reflect.String:
		if text := s.text(); !s.dry {
			field.SetString(text)
		}
	case reflect.Int, reflect.Int64:
		if n := s.number(); !s.dry {
			field.SetInt(n)
		}
	case reflect.Bool:
		if is := s.truth(); !s.dry {
			field.SetBool(is)
		}
	case reflect.Slice:
		if list := s.list(); !s.dry {
			*field.Addr().Interface().(*[]string) = list
		}
	case reflect.Map:
		if object := s.object(); !s.dry {
			*field.Addr().Interface().(*map[string]string) = object
		}
	default:
		s.failed = true
	}
}

// IsJSON reports whether a record is JSON, as json.Valid does.
func IsJSON(record []byte) bool {
	s, r := scanner{rest: record, dry: true}, new(Event)
	if s.record(r) && len(s.rest) == 0 {
		return true
	}
	return json.Valid(record)
}

// objectEnd is where the JSON object ends that a text begins with, judged by strings
// and brackets alone; -1: nowhere. Its content has to be checked in addition.
func objectEnd(b []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// Cut cuts a record that is a JSON object off the beginning of a text, and returns
// the rest of the text.
func Cut(text []byte) (record, rest []byte, ok bool) {
	end := objectEnd(text)
	if end < 0 || text[0] != '{' || !IsJSON(text[:end]) {
		return nil, text, false
	}
	return text[:end:end], text[end:], true
}
