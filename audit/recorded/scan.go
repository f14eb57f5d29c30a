package recorded

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// A record of the log has one form (see [audit.Event.AppendRecord]): known names in one
// order, no space, strings in which only a quotation mark and a backslash are escaped.
// Reading only that form takes a tenth of the time of encoding/json. Any other record is
// left to encoding/json: the scanner returns the same event as encoding/json, or none.

// scanner reads a record from its start. After a failure all its methods fail.
type scanner struct {
	rest   []byte
	failed bool
	dry    bool // values are skipped, not returned
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

func (s *scanner) boolean() bool {
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

// scanRecord reads a record, and returns nil if it has another form. It does not check the
// record's input.
func scanRecord(record []byte) *Event {
	if !bytes.HasPrefix(record, []byte(recordHead)) {
		return nil
	}
	s, e := scanner{rest: record}, new(Event)
	if !s.record(e) {
		return nil
	}
	return e
}

// record reads a whole record into e, or skips it if e is nil. It reports whether the record
// has the known fields only, each at most once and in the order of [recordFields]. A record
// of another form is left to encoding/json, which matches names without regard to case.
func (s *scanner) record(e *Event) bool {
	s.dry = e == nil
	s.want('{')
	for next := 0; ; {
		name, escaped := s.bytes()
		s.want(':')
		if escaped || s.failed {
			return false
		}
		for next < len(recordFields) && recordFields[next].name != string(name) {
			next++
		}
		if next == len(recordFields) {
			return false
		}
		recordFields[next].read(s, e)
		next++
		if s.take('}') {
			return len(s.rest) == 0
		}
		if s.want(','); s.failed {
			return false
		}
	}
}

// IsJSON reports whether a record is JSON, as json.Valid does.
func IsJSON(record []byte) bool {
	s := scanner{rest: record}
	return s.record(nil) || json.Valid(record)
}

// objectEnd returns the length of the JSON object at the start of a text, or -1 if it does
// not end. It reads only strings and brackets: the caller checks the content.
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

// Cut returns the record, a JSON object, at the start of a text, and the rest of the text.
func Cut(text []byte) (record, rest []byte, ok bool) {
	end := objectEnd(text)
	if end < 0 || text[0] != '{' || !IsJSON(text[:end]) {
		return nil, text, false
	}
	return text[:end:end], text[end:], true
}
